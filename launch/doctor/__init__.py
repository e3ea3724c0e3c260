"""Whether machine, packages and models are as training needs them: a line for each check, with the remedy.

`check` looks at everything, `preflight` at what makes a job worthless from its first step; `main` is the command.
"""

from launch.doctor.command import main
from launch.doctor.examine import check, preflight, require_healthy
from launch.doctor.finding import Finding
from launch.doctor.options import DoctorOptions

__all__ = ["DoctorOptions", "Finding", "check", "main", "preflight", "require_healthy"]
