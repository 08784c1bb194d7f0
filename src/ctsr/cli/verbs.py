"""The table of verbs: what `ctsr --help` lists, and where each is found when it is asked for."""

from dataclasses import dataclass

__all__ = ["SCRIPTS", "SCRIPT_FLAGS", "VERBS", "Verb"]


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
        Verb("train", "ctsr.cli.train", "Train", "train a generator with L1 loss"),
        Verb("finetune", "ctsr.cli.finetune", "Finetune", "go on with perceptual and adversarial losses (ESRGAN)"),
        Verb("evaluate", "ctsr.cli.evaluate", "Evaluate", "measure a model against interpolation, by patient"),
        Verb("view", "ctsr.cli.view", "View", "look at LR, interpolations, SR and HR side by side"),
        Verb("upscale", "ctsr.cli.upscale", "Upscale", "make real series sharper with a model, DICOM to DICOM"),
        Verb("physics", "ctsr.cli.physics", "Physics", "measure MTF and noise of a real scan of a phantom"),
        Verb("export", "ctsr.cli.export", "Export", "write a model as ONNX, OpenVINO, TorchScript, safetensors"),
        Verb("quantize", "ctsr.cli.quantize", "Quantize", "make a model's twin in 8-bit integers, fast on a CPU"),
        Verb("blend", "ctsr.cli.blend", "Blend", "mix two generators: how much fine-tuning is wanted"),
        Verb("models", "ctsr.cli.models", "Models", "list the models that come with ctsr, or show one's card"),
        Verb("weights", "ctsr.cli.weights", "Weights", "list, fetch or find weights of VGG, AlexNet, LPIPS, NIQE"),
        Verb("params", "ctsr.cli.params", "Params", "count a network's parameters, operations and memory"),
        Verb("demo", "ctsr.cli.demo", "Demo", "run the whole job on a built-in synthetic sample"),
    )
}

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

SCRIPT_FLAGS = {"visualize_lr_hr.py": ("--no_model",)}
"""Flags that a script's name stands for."""
