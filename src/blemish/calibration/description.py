"""What a calibration says to the user."""

from typing import TYPE_CHECKING

from blemish.calibration.order_statistics import images_needed
from blemish.messages import Message, lines, message

if TYPE_CHECKING:
    from blemish.calibration.record import Calibration

FEWEST_GROUPS = 3
"""With fewer groups of several images, nothing is known about how groups differ."""


def describe(calibration: "Calibration") -> str:
    """Both thresholds, which of them were set by hand, and the sentences of `summary`."""
    review = calibration.review_threshold
    shown = "" if review is None else message(", review threshold {review:.4g}", review=review)
    return message(
        "Image threshold {image:.4g}{image_by_hand}{review}, pixel threshold {pixel:.4g}{pixel_by_hand}.\n{summary}",
        review=Message(shown),
        image=calibration.image_threshold,
        image_by_hand=by_hand(calibration.image_is_by_hand),
        pixel=calibration.pixel_threshold,
        pixel_by_hand=by_hand(calibration.pixel_is_by_hand),
        summary=summary(calibration),
    )


def by_hand(is_by_hand: bool) -> str:
    """The words that follow a threshold which was set by hand; none for others."""
    return message(" (set by hand)") if is_by_hand else ""


def summary(calibration: "Calibration") -> str:
    """What the thresholds rest on, the false-alarm rate to expect, and cautions."""
    return lines([_promise(calibration), *_cautions(calibration)])


def _promise(calibration: "Calibration") -> str:
    given = {
        "images": _images(calibration),
        "expected": _percent(calibration.expected_false_alarm_rate),
        "bound": _percent(calibration.false_alarm_bound),
    }
    if calibration.outdated:
        return message(
            "Thresholds rest on {images}, scored before something was removed from the model: how many normal "
            "images are called NG is no longer known. Evaluate the model, or fit it again.",
            images=given["images"],
        )
    if calibration.image_is_by_hand:
        return message(
            "The image threshold was set by hand; from {images}, expect about {expected} of "
            "normal images called NG (below {bound} with 95 % confidence).",
            **given,
        )
    if calibration.is_enough:
        return message(
            "Thresholds rest on {images}: expect up to {expected} of normal images called NG "
            "(below {bound} with 95 % confidence).",
            **given,
        )
    return message(
        "Thresholds rest on {images}, too few for the requested false-alarm rate of {rate}; "
        "expect up to {expected} of normal images called NG (below {bound} with 95 % confidence). "
        "It takes at least {needed} independent images to reach it.",
        rate=_percent(calibration.false_alarm_rate),
        needed=images_needed(calibration.false_alarm_rate),
        **given,
    )


def _images(calibration: "Calibration") -> str:
    """The number of images, how they were scored and, if that makes a difference, their groups."""
    count, effective = calibration.images, calibration.effective_images
    if calibration.held_out:
        images = message(
            "{count} held-out normal image" if count == 1 else "{count} held-out normal images", count=count
        )
    else:
        images = message("{count} normal images, each scored as if it had not been learned", count=count)
    if effective == count:
        return images
    return message(
        "{images} (in {groups} groups, worth {effective} independent images)",
        images=images,
        groups=len(set(calibration.groups)),
        effective=effective,
    )


def _cautions(calibration: "Calibration") -> list[str]:
    cautions: list[str] = []
    groups = len(set(calibration.groups))
    if calibration.rests_on_one:
        cautions.append(
            message(
                "The image threshold rests on one image, which scores {highest:.4g}; the next lower score is "
                "{next:.4g}. Look at it: if it shows a defect, leave it out, or defects that score less are missed.",
                highest=calibration.normal_scores[-1],
                next=calibration.normal_scores[-2],
            )
        )
    if groups < min(FEWEST_GROUPS, calibration.images):
        cautions.append(
            message(
                "The images are of {groups} lots or runs only, so the thresholds may not hold for the next one. Add "
                "images of others.",
                groups=groups,
            )
        )
    return cautions


def _percent(rate: float) -> str:
    return f"{100 * rate:.2g} %" if rate < 0.995 else "100 %"
