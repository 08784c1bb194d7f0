"""The table of verbs: what `ctsr --help` lists, and where each is found when it is asked for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One verb of the command line; its module is imported only when it runs."""

    name: str
    module: str
    options: str
    """The dataclass in `module` whose fields are the flags and whose `run` does the work."""
    summary: str
    basic: str = ""
    """Names of the flags that its help shows first, separated by spaces."""


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "upscale",
            "ctsr.cli.upscale",
            "Upscale",
            "super-resolve CT series with a model, DICOM to DICOM",
            basic="model_path strength only series target_spacing format overwrite device jobs",
        ),
        Verb(
            "node",
            "ctsr.cli.node",
            "Node",
            "receive series as a DICOM node, upscale them and send the results on",
            basic="aet host port send_to allow queue list retry model_path strength device",
        ),
        Verb("scan", "ctsr.cli.scan", "Scan", "list patients, series and what is wrong with them"),
        Verb(
            "preprocess",
            "ctsr.cli.preprocess",
            "Preprocess",
            "resample every series to one in-plane pixel spacing",
            basic="root out_dir target_spacing",
        ),
        Verb("split", "ctsr.cli.split", "Split", "divide the patients into train, val and test"),
        Verb(
            "train",
            "ctsr.cli.train",
            "Train",
            "train a generator with L1 loss",
            basic="data_root scale arch epochs batch_size patch_size lr degradation device resume seed",
        ),
        Verb(
            "finetune",
            "ctsr.cli.finetune",
            "Finetune",
            "go on with perceptual and adversarial losses (ESRGAN)",
            basic="data_root pretrained_g out_dir epochs batch_size patch lr lambda_perc lambda_gan device resume seed",
        ),
        Verb(
            "evaluate",
            "ctsr.cli.evaluate",
            "Evaluate",
            "measure a model against interpolation, by patient",
            basic="root split model_path output_dir preset windows metrics max_patients device jobs",
        ),
        Verb(
            "view",
            "ctsr.cli.view",
            "View",
            "look at LR, interpolations, SR and HR side by side",
            basic="model_path preset plane index eval_summary snapshot device",
        ),
        Verb("physics", "ctsr.cli.physics", "Physics", "measure MTF and noise of a real scan of a phantom"),
        Verb("export", "ctsr.cli.export", "Export", "write a model as ONNX, OpenVINO, TorchScript, safetensors"),
        Verb(
            "quantize",
            "ctsr.cli.quantize",
            "Quantize",
            "quantize a model to 8-bit integers, for fast inference on a CPU",
            basic="data_root steps out overwrite",
        ),
        Verb("blend", "ctsr.cli.blend", "Blend", "mix two generators: how much fine-tuning is wanted"),
        Verb("models", "ctsr.cli.models", "Models", "list the models that come with ctsr, or show one's card"),
        Verb("weights", "ctsr.cli.weights", "Weights", "list, fetch or find weights of VGG, AlexNet, LPIPS, NIQE"),
        Verb("params", "ctsr.cli.params", "Params", "count a network's parameters, operations and memory"),
        Verb("doctor", "ctsr.cli.doctor", "Doctor", "report what works on this machine"),
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
