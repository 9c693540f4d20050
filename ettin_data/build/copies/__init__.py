"""What a build does about copies: of documents, of held-out ones, and of paragraphs."""
