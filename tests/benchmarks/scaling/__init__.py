"""Days of calls played through the chart's autoscaling, in simulated time.

`days` is who calls when, `autoscaler` what KEDA and the HPA make of a metric, `gateways` and `workers` what comes of
it, `chart` the values that the chart has. Nothing here waits: a day takes seconds.
"""
