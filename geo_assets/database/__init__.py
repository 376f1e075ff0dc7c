"""The one database: bootstrap of roles and extensions, migrations, connections."""
