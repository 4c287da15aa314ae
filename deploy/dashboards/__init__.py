"""Grafana's dashboards as code: `make dashboards` writes deploy/grafana/*.json from it.

A module per dashboard with its `dashboard()`; `queries` says how metrics are asked for, `panels` how they are drawn.
"""
