"""Callbacks of a Solver: what to do while it trains."""

from __future__ import annotations

from gconv.training.callbacks.checkpoints import BestCheckpoint, LastCheckpoint, StopCheckpoint
from gconv.training.callbacks.gradients import ClipGradients
from gconv.training.callbacks.logs import CSVLog, JSONLinesLog
from gconv.training.callbacks.protocol import Callback
from gconv.training.callbacks.schedules import CosineSchedule, OneCycleSchedule, ReduceOnPlateau, StepSchedule, WarmUp
from gconv.training.callbacks.stopping import EarlyStopping, TimeLimit
from gconv.training.callbacks.tensorboard import TensorBoard

__all__ = [
    "BestCheckpoint",
    "CSVLog",
    "Callback",
    "ClipGradients",
    "CosineSchedule",
    "EarlyStopping",
    "JSONLinesLog",
    "LastCheckpoint",
    "OneCycleSchedule",
    "ReduceOnPlateau",
    "StepSchedule",
    "StopCheckpoint",
    "TensorBoard",
    "TimeLimit",
    "WarmUp",
]
