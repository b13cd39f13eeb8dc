"""Where `Storage` was before it moved to models/storage.py; scripts of users import it from here."""

from models.storage import Storage as Storage
