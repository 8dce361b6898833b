"""Callbacks of a Solver: what to do while it trains."""

from __future__ import annotations

from gconv.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from gconv.callbacks.gradients import ClipGradients
from gconv.callbacks.logs import CSVLog, JSONLinesLog
from gconv.callbacks.protocol import Callback
from gconv.callbacks.schedules import CosineSchedule, OneCycleSchedule, ReduceOnPlateau, StepSchedule, WarmUp
from gconv.callbacks.stopping import EarlyStopping, TimeLimit
from gconv.callbacks.tensorboard import TensorBoard

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
    "TensorBoard",
    "TimeLimit",
    "WarmUp",
]
