"""Former place of `Storage`, which is now in models/storage.py; users' scripts import it from here."""

from models.storage import Storage as Storage
