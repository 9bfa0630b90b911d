"""The routes, by subject: pages for people, documents for pages and scripts, changes, the live stream, machines."""
