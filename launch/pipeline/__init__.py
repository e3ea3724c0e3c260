"""`train.sh`: the stages one after another, on one device, one machine or several, in a folder of their own."""

from launch.pipeline.driver import main

__all__ = ["main"]
