"""Benchmarks for a GPU. Each script prints a table, writes JSON and ends within ten minutes.

`--device cpu` tries a script at small sizes. They need torch, timm, numpy, OpenCV, pyarrow and safetensors, but not
Ray; those that make training samples also need albumentations.
"""
