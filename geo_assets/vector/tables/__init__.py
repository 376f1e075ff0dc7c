"""What runs in the parent: it takes a child's streams into tables of PostGIS and publishes them. It opens no file."""
