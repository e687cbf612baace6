"""Consumer group `summarize`: the summary of a transcript."""
