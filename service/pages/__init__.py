"""The page at `/` and the API's documentation at `/docs`: templates, texts and static files.

templates/     one HTML file a page; Jinja2 fills in the texts
texts/         one JSON file a language, for the templates and for the scripts alike
static/        style, scripts and pictures as they are sent; nothing is built
"""
