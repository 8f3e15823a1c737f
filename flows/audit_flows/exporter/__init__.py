"""The trail's figures for Prometheus: what is measured, where it is read, how it is served."""
