"""Metrics, protocols, classical baselines, reports and figures."""
