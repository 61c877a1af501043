"""What holds for every test."""

from hypothesis import HealthCheck, settings

# How long anything takes says more about the machine and its neighbours than about the program.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
