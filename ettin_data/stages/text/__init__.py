"""What filters know of text: words, sentences, English."""
