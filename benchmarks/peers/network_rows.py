"""The rows of what learns by gradients: training steps, an epoch, inference."""

from benchmarks.peers.columns import Json, Side, learning, scoring, seconds, versions


def fastflow_step(ours: Side, peer: Side, settings: Json) -> Json:
    """A training step of FastFlow's flows, the maps being there already."""
    return step("fastflow-step", f"{settings['flow_batch']} images a step", ours, peer)


def efficientad_step(ours: Side, peer: Side, settings: Json) -> Json:
    """A training step of EfficientAD S."""
    return step(
        "efficientad-step",
        "1 image a step; a quarter of the penalty image's pixels on our side",
        ours,
        peer,
    )


def ganomaly_step(ours: Side, peer: Side, settings: Json) -> Json:
    """A training step of GANomaly."""
    return step(
        "ganomaly-step",
        f"{settings['flow_batch']} images of 64 × 64 a step, 32 channels first, a code of 100; both networks' steps",
        ours,
        peer,
    )


def step(row: str, what: str, ours: Side, peer: Side) -> Json:
    """A training step on both sides, and of ours once more in float32."""
    mine, theirs = ours(row), peer(row)
    notes = [what, learning(theirs, mine), in_precision(mine)]
    if mine["precision"] != "float32":
        plain = mine["float32_seconds"]
        notes.append(f"in float32, as anomalib's, {plain:.4f} s ({theirs['seconds'] / plain:.2f} times)")
    if "convolution_seconds" in mine:
        notes.append(f"our convolutions alone take {mine['convolution_seconds']:.4f} s")
    return {
        **seconds(theirs["seconds"], mine["seconds"]),
        "note": "; ".join(notes),
        "versions": versions(theirs, mine),
    }


def fastflow_epoch(ours: Side, peer: Side, settings: Json) -> Json:
    """An epoch of FastFlow: from kept features on our side, with the backbone in every step on the other."""
    images = ours("training-inputs")["images"]
    mine, theirs = ours("fastflow-epoch"), peer("fastflow-epoch")
    preparing = mine["preparing_seconds"]
    notes = [
        f"{images} images, {settings['flow_batch']} a step",
        f"blemish computes the features once, before the first epoch, in {preparing:.1f} s",
        f"with a tenth of it, as in ten epochs, "
        f"{theirs['seconds'] / (mine['seconds'] + preparing / 10):.2f} times",
        learning(theirs, mine),
        in_precision(mine),
    ]
    return {
        **seconds(theirs["seconds"], mine["seconds"]),
        "note": "; ".join(notes),
        "versions": versions(theirs, mine),
    }


def fastflow_inspect(ours: Side, peer: Side, settings: Json) -> Json:
    """One image at a time through backbone, flows and map."""
    ours("inputs")
    mine, theirs = ours("fastflow-inspect"), peer("fastflow-inspect")
    return {
        **seconds(theirs["seconds"], mine["seconds"]),
        "note": f"{scoring(theirs, mine)}; float32 on both sides; "
        f"our convolutions, which both have, alone take {mine['convolution_seconds']:.4f} s",
        "versions": versions(theirs, mine),
    }


def simplenet_inspect(ours: Side, peer: Side, settings: Json) -> Json:
    """One image at a time through SimpleNet; the other side is its authors' code."""
    ours("inputs")
    mine, theirs = ours("simplenet-inspect"), peer("simplenet-inspect")
    whole = theirs["whole_seconds"]
    notes = [
        "the authors' code in anomalib's place",
        scoring(theirs, mine),
        "without its enlargement of all features to the image's size, which neither score nor map needs; "
        f"with it {whole:.4f} s ({whole / mine['seconds']:.2f} times)",
    ]
    return {
        **seconds(theirs["seconds"], mine["seconds"]),
        "note": "; ".join(notes),
        "versions": versions(theirs, mine),
    }


def in_precision(mine: Json) -> str:
    """What blemish's convolutions train in here."""
    return f"blemish's convolutions train in {mine['precision']}"
