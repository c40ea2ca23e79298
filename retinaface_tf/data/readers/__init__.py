"""Readers of label formats: WIDER FACE, RetinaFace label.txt, FDDB, COCO, JSON lines, mesh labels; `registry` lists them."""
