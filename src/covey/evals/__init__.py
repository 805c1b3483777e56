"""Held-out measurement: `evaluate` samples and scores, `intervals` says how sure that makes one."""
