"""`python -m retinaface_tf` is the command `retinaface-tf`, also where no scripts are installed."""

from retinaface_tf.cli import main

if __name__ == "__main__":
    main()
