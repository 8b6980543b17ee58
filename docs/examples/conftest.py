"""All that a project needs in order to test against a mock AIStore cluster."""

pytest_plugins = ["fastmpu.mock.pytest"]
