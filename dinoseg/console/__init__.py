"""What a terminal shows: tables, reports, bars, and policies in words."""
