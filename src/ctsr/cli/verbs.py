"""The table of verbs: what `ctsr --help` lists, and where each is found when it is asked for."""

from dataclasses import dataclass

__all__ = ["LATER", "SCRIPTS", "VERBS", "Verb"]


@dataclass(frozen=True)
class Verb:
    """One verb of the command line; its module is imported only when it runs."""

    name: str
    module: str
    options: str
    """The dataclass in `module` whose fields are the flags and whose `run` does the work."""
    summary: str


VERBS = {
    verb.name: verb
    for verb in (
        Verb("scan", "ctsr.cli.scan", "Scan", "list patients, series and what is wrong with them"),
        Verb("preprocess", "ctsr.cli.preprocess", "Preprocess", "resample every series to one in-plane pixel spacing"),
        Verb("split", "ctsr.cli.split", "Split", "divide the patients into train, val and test"),
        Verb("train", "ctsr.cli.train", "Train", "train an RRDB generator with L1 loss"),
        Verb("evaluate", "ctsr.cli.evaluate", "Evaluate", "measure a model against interpolation, by patient"),
        Verb("upscale", "ctsr.cli.upscale", "Upscale", "make real series sharper with a model, DICOM to DICOM"),
        Verb("export", "ctsr.cli.export", "Export", "write a model as ONNX, OpenVINO or TorchScript"),
        Verb("params", "ctsr.cli.params", "Params", "count a network's parameters, operations and memory"),
        Verb("demo", "ctsr.cli.demo", "Demo", "run the whole job on a built-in synthetic sample"),
    )
}

LATER = {
    "finetune": "fine-tuning with perceptual and adversarial losses",
    "view": "the interactive viewer",
}
"""Verbs that scripts of `ESRGAN/` already name but this version does not have yet."""

SCRIPTS = {
    "preprocess_resample_ct.py": "preprocess",
    "dump_patient_split.py": "split",
    "train_ct_sr.py": "train",
    "finetune_ct_sr.py": "finetune",
    "evaluate_ct_model.py": "evaluate",
    "visualize_lr_hr.py": "view",
    "visualize_lr_sr_hr.py": "view",
}
"""The scripts in `ESRGAN/` and the verb that each is another name for."""
