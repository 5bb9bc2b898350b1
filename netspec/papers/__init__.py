"""The papers' tables and studies, what runs leave behind, timing."""
