"""3D Slicer: super-resolution of the CT volume that is loaded, by the command `ctsr upscale`.

ctsr runs in an environment of its own, outside of Slicer's Python: torch and pydicom need not agree with Slicer's.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import ctk
import qt
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

PROGRAM_SETTING = "CtsrUpscale/program"
"""Where the module remembers the path of the program `ctsr`."""
STRENGTHS = ("standard", "faithful", "strong")
NOT_FOR_DIAGNOSIS = "Super-resolved images are not for diagnosis."


class CtsrUpscale(ScriptedLoadableModule):
    """What the list of modules shows."""

    def __init__(self, parent) -> None:
        super().__init__(parent)
        parent.title = "CT super-resolution (ctsr)"
        parent.categories = ["Filtering"]
        parent.contributors = ["The ctsr authors"]
        parent.helpText = f"Makes a CT volume finer in plane, or between slices, with ctsr. {NOT_FOR_DIAGNOSIS}"


class CtsrUpscaleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: which volume, how strongly, and the button."""

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        box = ctk.ctkCollapsibleButton()
        box.text = "Super-resolution"
        self.layout.addWidget(box)
        form = qt.QFormLayout(box)

        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.addEnabled = self.volume.removeEnabled = False
        self.volume.setMRMLScene(slicer.mrmlScene)
        form.addRow("CT volume, HU:", self.volume)

        self.strength = qt.QComboBox()
        self.strength.addItems(STRENGTHS)
        form.addRow("Strength:", self.strength)

        self.slice_spacing = ctk.ctkDoubleSpinBox()
        self.slice_spacing.minimum, self.slice_spacing.maximum, self.slice_spacing.value = 0.0, 10.0, 0.0
        self.slice_spacing.suffix = " mm"
        self.slice_spacing.toolTip = "Above 0: makes the slices between slices instead of finer pixels."
        form.addRow("Slice spacing:", self.slice_spacing)

        self.program = ctk.ctkPathLineEdit()
        self.program.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Executable
        self.program.currentPath = slicer.app.settings().value(PROGRAM_SETTING) or shutil.which("ctsr") or ""
        form.addRow("Program ctsr:", self.program)

        self.apply = qt.QPushButton("Upscale")
        self.apply.connect("clicked(bool)", self.on_apply)
        form.addRow(self.apply)
        form.addRow(qt.QLabel(NOT_FOR_DIAGNOSIS))
        self.layout.addStretch(1)

    def on_apply(self, _checked: bool = False) -> None:
        """Run the program and show the result; dialogs have what goes wrong, and warnings."""
        slicer.app.settings().setValue(PROGRAM_SETTING, self.program.currentPath)
        logic = CtsrUpscaleLogic()
        with slicer.util.tryWithErrorDisplay("ctsr upscale failed", waitCursor=True):
            logic.run(
                self.volume.currentNode(),
                program=self.program.currentPath,
                strength=self.strength.currentText,
                slice_spacing=self.slice_spacing.value,
            )
        if logic.warnings:
            slicer.util.warningDisplay("\n\n".join(logic.warnings), windowTitle="ctsr upscale")


class CtsrUpscaleLogic(ScriptedLoadableModuleLogic):
    """A volume node out of a volume node."""

    warnings: tuple[str, ...] = ()
    """What ctsr warned about in the last run."""

    def run(self, node, *, program: str, strength: str = "standard", slice_spacing: float = 0.0):
        """Return a new volume node with the result, in the place of `node`.

        Args:
            node: a vtkMRMLScalarVolumeNode in HU.
            program: path of `ctsr`.
            strength: one of `STRENGTHS`.
            slice_spacing: mm between slices of the result; 0 makes finer pixels instead.

        Raises:
            RuntimeError: there is no volume or no program, or ctsr refused; the message is its last line.
        """
        self.warnings = ()
        if node is None:
            raise RuntimeError("Choose a CT volume first.")
        if not program or not Path(program).is_file():
            raise RuntimeError("Give the path of the program ctsr, as ~/ctsr/.venv/bin/ctsr.")
        with tempfile.TemporaryDirectory(prefix="ctsr-slicer-") as folder:
            source, result = Path(folder, "source"), Path(folder, "result.nii.gz")
            source.mkdir()
            command = [program, "upscale", str(self._written(node, source)), str(result)]
            command += ["--strength", strength, "--no_picture"]
            if slice_spacing > 0:
                command += ["--slice_spacing", f"{slice_spacing:g}"]
            # Without Slicer's own PYTHONHOME and library paths, which would break another Python.
            environment = slicer.util.startupEnvironment()
            done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
            if done.returncode or not result.is_file():
                lines = (done.stderr or done.stdout).strip().splitlines()
                raise RuntimeError(lines[-1] if lines else f"ctsr ended with status {done.returncode}")
            said = (line for line in done.stderr.splitlines() if line.startswith("warning: "))
            # The folder is gone afterwards; its name would tell nothing.
            self.warnings = tuple(line.removeprefix("warning: ").replace(str(source), node.GetName()) for line in said)
            loaded = slicer.util.loadVolume(str(result))
        loaded.SetName(f"{node.GetName()} [SR]")
        return loaded

    def _written(self, node, folder: Path) -> Path:
        """The volume on disk: its own DICOM files, whose headers say more, or NIfTI."""
        uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
        files = [slicer.dicomDatabase.fileForInstance(uid) for uid in uids]
        if files and all(files):
            for number, file in enumerate(files):
                shutil.copy(file, folder / f"{number:05d}.dcm")
            return folder
        path = folder / "volume.nii.gz"
        if not slicer.util.saveNode(node, str(path)):
            raise RuntimeError("The volume cannot be saved as NIfTI.")
        return path
