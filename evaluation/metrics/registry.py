"""The metrics of models. To add one, write it in a file of its own and name it here: every model gets its value."""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.metrics.alignment import JUDGE_COSINE, JUDGE_FLOOR, JUDGE_TOP1
from evaluation.metrics.asked_words import LOCATED_F1, WRITTEN_F1
from evaluation.metrics.held_out_errors import DENOISING_ERROR
from evaluation.metrics.kid import KID
from evaluation.metrics.metric import Metric
from evaluation.metrics.objects_in_box import OBJECTS_FOLLOW, OBJECTS_IN_BOX
from evaluation.metrics.objects_shown import OBJECTS_SHOWN
from evaluation.metrics.paired_models import SSIM

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        DENOISING_ERROR,
        JUDGE_COSINE,
        JUDGE_FLOOR,
        JUDGE_TOP1,
        OBJECTS_SHOWN,
        OBJECTS_IN_BOX,
        OBJECTS_FOLLOW,
        WRITTEN_F1,
        LOCATED_F1,
        KID,
        SSIM,
    )
}
