"""What a site measures, when somebody is to be told, and what is shown: all of it follows from the declarations.

`metrics` says what is kept of what is measured, `slo` what a system promises, `rules` what Prometheus makes of both,
`dashboards` what Grafana shows. Nothing here knows of Pulumi.
"""
