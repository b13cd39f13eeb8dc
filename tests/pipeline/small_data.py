"""Tiny data sets in a temporary folder, one per registered reader, and the arrays that must come back."""

import io
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from models.storage import Storage
from pipeline.data import rle
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.readers import open_reader
from pipeline.data.sample import Reader

HW = (20, 30)


def picture(seed: int = 0, hw: tuple[int, int] = HW) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def box(y: int, x: int, height: int, width: int, hw: tuple[int, int] = HW) -> np.ndarray:
    mask = np.zeros(hw, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_coco_json(
    root: Path, images: Sequence[dict[str, Any]], annotations: Sequence[dict[str, Any]], name: str = "annotations.json"
) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": list(images), "annotations": list(annotations)}))
    return path


def image_record(image_id: int | str, name: str, hw: tuple[int, int] = HW) -> dict[str, Any]:
    return {"id": image_id, "file_name": name, "height": hw[0], "width": hw[1]}


def annotation(annotation_id: int, image_id: int | str, mask: np.ndarray, **more: Any) -> dict[str, Any]:
    record = {"id": annotation_id, "image_id": image_id, "category_id": 0, "segmentation": rle.encode(mask)}
    return {**record, **more}


def coco(root: Path) -> Reader:
    for number in (3, 12):
        save(picture(number), root / "images" / f"{number}.png")
    annotations = [
        annotation(7, 3, box(2, 3, 5, 6)),
        annotation(9, 3, box(4, 5, 8, 9)),
        annotation(5, 12, box(0, 0, 20, 30)),
        annotation(6, 12, box(1, 1, 3, 3), segmentation=[]),
        annotation(8, 12, box(10, 10, 5, 5), iscrowd=1),
    ]
    write_coco_json(root, [image_record(12, "12.png"), image_record(3, "3.png")], annotations)
    return open_reader("coco", str(root))


def lvis(root: Path) -> Reader:
    """A val split whose photos lie in both of COCO's folders."""
    images = []
    for image_id, folder in ((139, "val2017"), (30, "train2017")):
        save(picture(image_id), root / folder / f"{image_id:012d}.png")
        images.append(
            {
                "id": image_id,
                "height": HW[0],
                "width": HW[1],
                "coco_url": f"http://images.cocodataset.org/{folder}/{image_id:012d}.png",
                "flickr_url": f"http://flickr/{image_id}",
                "license": 2,
                "neg_category_ids": [1, 7],
                "not_exhaustive_category_ids": [3] if image_id == 30 else [],
            }
        )
    annotations = [
        annotation(1, 30, box(1, 2, 5, 6), category_id=3),
        annotation(2, 139, box(3, 3, 9, 9), category_id=1),
        annotation(9, 30, box(9, 9, 6, 6), category_id=3),
    ]
    data = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": n, "name": name, "synset": f"{name}.n.01"} for n, name in ((1, "cup"), (3, "fork"))],
        "licenses": [{"id": 2, "name": "by-nc", "url": "http://by-nc"}],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "lvis_v1_val.json").write_text(json.dumps(data))
    return open_reader("lvis", str(root))


def encoded_layer(labels: np.ndarray, file_format: str = "PNG") -> np.ndarray:
    """Labels as OpenCV's imencode returns them: the bytes of a file in an array."""
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, file_format)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def save_pickle(value: Any, path: Path, protocol: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def coco_lvis(root: Path) -> Reader:
    """Two images: three objects, of which one is a part of another, and stuff; then one object in a separate file."""
    names = "000000000030", "000000000009"
    objects = labelled({1: box(0, 0, 9, 9), 2: box(10, 10, 9, 9), 3: box(0, 20, 5, 10)})
    layers = [objects, labelled({1: box(2, 2, 3, 3)})]
    save_pickle(
        ([encoded_layer(layer) for layer in layers], [(0, 1), (1, 1), (0, 2), (0, 3)]),
        root / "val" / "masks" / f"{names[0]}.pickle",
    )
    save_pickle(([encoded_layer(layers[1])[:, None]], [(0, 1)]), root / "val" / "masks" / f"{names[1]}.pickle", 2)
    hierarchy = {
        0: {"children": [1], "parent": None, "node_level": 0},
        1: {"children": [], "parent": 0, "node_level": 1},
        2: None,
    }
    index = {
        names[0]: {"num_instance_masks": 3, "hierarchy": hierarchy},
        names[1]: {"num_instance_masks": 1, "hierarchy": {0: None}},
    }
    save_pickle(index, root / "val" / "hannotation.pickle")
    for number, name in enumerate(names):
        save(picture(number), root / "val" / "images" / f"{name}.jpg")
    return open_reader("coco_lvis", str(root))


def _mask_per_object(name: str, image: str, masks: str) -> Callable[[Path], Reader]:
    """Two images with two and one mask files; in the patterns {name} is an image's, {mask} a mask's name."""

    def build(root: Path) -> Reader:
        for number, stem in enumerate(("b7", "a1")):
            save(picture(number), root / "stage1_train" / image.format(name=stem))
            for mask in range(2 - number):
                path = root / "stage1_train" / masks.format(name=stem, mask=f"m{mask}")
                save(box(2, 3 + 8 * mask, 9, 6).astype(np.uint8) * 255, path)
        options = {} if name == "nuclei" else {"images": "images/{name}.*", "masks": "masks/{name}/*.png"}
        return open_reader(name, str(root), options=options)

    return build


def yolo_line(category: int, *corners_xy: tuple[float, float]) -> str:
    return " ".join([str(category), *(f"{value:.6f}" for corner in corners_xy for value in corner)])


def yolo(root: Path) -> Reader:
    square = (0.2, 0.2), (0.6, 0.2), (0.6, 0.7), (0.2, 0.7)
    for number, stem in enumerate(("train/b", "train/a", "val/c")):
        save(picture(number), root / "images" / f"{stem}.png")
    for stem, lines in (
        ("train/b", [yolo_line(1, *square), "", "0 0.5 0.5 0.2 0.2", yolo_line(0, (0.5, 0.5), (1, 0.5), (1, 1))]),
        ("train/a", [yolo_line(2, *square)]),
    ):
        path = root / "labels" / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text("path: ..\nnames:\n  0: cat\n  1: dog\n")
    return open_reader("yolo", str(root))


def panoptic_png(segments: dict[int, np.ndarray], hw: tuple[int, int] = HW) -> np.ndarray:
    ids = np.zeros(hw, np.int64)
    for segment, mask in segments.items():
        ids[mask] = segment
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)


def coco_panoptic(root: Path) -> Reader:
    for split, image_id in (("train", 40), ("val", 5)):
        save(picture(image_id), root / "images" / split / f"{image_id}.png")
        segments = {70000: box(0, 0, 5, 5), 300: box(6, 6, 10, 10), 9: box(17, 0, 3, 30), 8: box(0, 20, 4, 4)}
        save(panoptic_png(segments), root / "annotations" / f"panoptic_{split}" / f"{image_id}.png")
        infos = [
            {"id": 70000, "category_id": 1, "iscrowd": 0, "area": 25},
            {"id": 300, "category_id": 1, "iscrowd": 0, "area": 100},
            {"id": 9, "category_id": 2, "iscrowd": 0, "area": 90},
            {"id": 8, "category_id": 1, "iscrowd": 1, "area": 16},
            {"id": 77, "category_id": 1, "iscrowd": 0, "area": 50},
        ]
        categories = [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]
        data = {
            "images": [image_record(image_id, f"{image_id}.png")],
            "annotations": [{"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": infos}],
            "categories": categories,
        }
        (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(data))
    return open_reader("coco_panoptic", str(root))


def _folders(name: str, images: str, masks: str, values: tuple[int, ...], **options: str) -> Callable[[Path], Reader]:
    def build(root: Path) -> Reader:
        for number, stem in enumerate(("a bear", "b")):
            save(picture(number), root / images / f"{stem}.png")
            labels = np.zeros(HW, np.uint8)
            for index, value in enumerate(values):
                labels[5 * index : 5 * index + 4, 3:20] = value
            save(labels, root / masks / f"{stem}.seg.png")
        return open_reader(name, str(root), options=options)

    return build


def save_mat(path: Path, **variables: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=True)
    return path


def save_palette(labels: np.ndarray, path: Path) -> Path:
    """Save labels like Pascal VOC: as indices into its palette, whose colours encode the bits of the index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8)).convert("P")
    image.putpalette([sum((n >> 3 * j + c & 1) << 7 - j for j in range(3)) for n in range(256) for c in range(3)])
    image.save(path)
    return path


def labelled(masks: dict[int, np.ndarray], hw: tuple[int, int] = HW) -> np.ndarray:
    labels = np.zeros(hw, np.uint8)
    for value, mask in masks.items():
        labels[mask] = value
    return labels


def sbd_instances(labels: np.ndarray) -> dict[str, Any]:
    numbers = np.setdiff1d(labels, [0])
    return {"Segmentation": labels, "Boundaries": np.zeros((len(numbers), 1), object), "Categories": numbers[:, None]}


def sbd(root: Path) -> Reader:
    for number, name in enumerate(("2008_000002", "2008_000001")):
        save(picture(number), root / "img" / f"{name}.jpg")
        labels = labelled({1: box(0, 0, 5, 6), 3: box(7, 8, 9, 9)})
        save_mat(root / "inst" / f"{name}.mat", GTinst=sbd_instances(labels))
    (root / "val.txt").write_text("2008_000002\n2008_000001\n\n")
    return open_reader("sbd", str(root))


def pascal_voc(root: Path) -> Reader:
    for number, name in enumerate(("2007_000033", "2007_000042")):
        save(picture(number), root / "JPEGImages" / f"{name}.jpg")
        labels = {1: box(0, 0, 5, 6), 2: box(0, 20, 4, 4), 16: box(10, 10, 8, 8), 255: box(5, 0, 1, 6)}
        save_palette(labelled(labels), root / "SegmentationObject" / f"{name}.png")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000042\n2007_000033\n")
    return open_reader("pascal_voc", str(root))


def bsds_truth(*maps: np.ndarray) -> np.ndarray:
    cells = np.empty((1, len(maps)), object)
    for number, labels in enumerate(maps):
        cells[0, number] = {"Segmentation": labels.astype(np.uint16), "Boundaries": np.zeros((1, 1))}
    return cells


def bsds500(root: Path) -> Reader:
    for split, name in (("train", "2092"), ("val", "101085")):
        save(picture(), root / "images" / split / f"{name}.jpg")
        first = labelled({2: box(0, 0, 10, 10), 3: box(12, 12, 6, 6), 4: box(0, 29, 2, 1)})
        second = labelled({1: box(0, 0, 10, 11), 5: box(12, 20, 6, 6), 6: box(0, 29, 2, 1)})
        save_mat(root / "groundTruth" / split / f"{name}.mat", groundTruth=bsds_truth(first + 1, second + 1))
    return open_reader("bsds500", str(root))


def him2k(root: Path) -> Reader:
    for number, name in enumerate(("two people", "one")):
        save(picture(number), root / "images" / "natural" / f"{name}.jpg")
        for person in range(2 - number):
            alpha = box(2, 3 + 8 * person, 9, 9) * 127 + box(4, 4 + 8 * person, 6, 6) * 128
            save(alpha.astype(np.uint8), root / "alphas" / "natural" / name / f"{person}.png")
    return open_reader("him2k", str(root))


def scenes(root: Path) -> Reader:
    return open_reader("scenes", options={"num_images": "4", "height": "96", "width": "120"})


# A registered reader that is missing here fails the contract test.
def prepared(root: Path) -> Reader:
    prepare(coco(root / "source"), Storage(str(root)), {}, run=run_here(1), items_per_part=1)
    return open_reader("prepared", str(root))


def several(root: Path) -> Reader:
    coco(root / "photos")
    him2k(root / "people")
    parts = [{"reader": "him2k", "root": "people"}, {"reader": "coco", "root": "photos", "name": "a"}]
    (root / "several.json").write_text(json.dumps(parts))
    return open_reader("several", str(root))


SMALL: dict[str, Callable[[Path], Reader]] = {
    "scenes": scenes,
    "coco": coco,
    "prepared": prepared,
    "coco_panoptic": coco_panoptic,
    "lvis": lvis,
    "coco_lvis": coco_lvis,
    "yolo": yolo,
    "mask_folders": _mask_per_object("mask_folders", "images/{name}.png", "masks/{name}/{mask}.png"),
    "nuclei": _mask_per_object("nuclei", "{name}/images/{name}.png", "{name}/masks/{mask}.png"),
    "masks": _folders("masks", "images", "masks", (1, 7, 255), rule="ids,ignore:255"),
    "grabcut": _folders("grabcut", "data_GT", "boundary_GT", (64, 128, 255)),
    "berkeley": _folders("berkeley", "images", "masks", (128, 255)),
    "davis": _folders("davis", "img", "gt", (1,)),
    "coco_mval": _folders("coco_mval", "img", "gt", (255,)),
    "sbd": sbd,
    "pascal_voc": pascal_voc,
    "bsds500": bsds500,
    "him2k": him2k,
    "several": several,
}
