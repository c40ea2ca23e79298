"""What a detector answers: `Faces`, one `Face`, and drawing them on the image."""
