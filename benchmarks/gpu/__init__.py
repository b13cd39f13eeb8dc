"""What only a GPU can tell. Each script prints a table, writes JSON and ends within ten minutes; `--device cpu` tries
it at small sizes. They need torch, timm, numpy, OpenCV, pyarrow and safetensors, and no Ray; those that make training
samples need albumentations too.
"""
