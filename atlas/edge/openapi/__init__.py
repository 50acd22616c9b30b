"""The OpenAPI documents of the public listener and of the operator listener.

public.py             the document for apps
public_schemas.py     its types
operator_document.py  the document for operators
operator_routes.py    its routes
operator_texts.py     descriptions of its types
parameters.py         headers, path and query of requests
errors.py             the error responses: codes, headers, examples
schemas.py            JSON Schema of the types in the code, as OpenAPI 3.0 has it
texts.py              descriptions and formats, for readers who do not know the code
examples.py           examples of requests and replies

The version is 3.0.3, because all client generators support all of it. config/openapi.json and
config/openapi-operator.json are the documents at the default settings; `just openapi` writes them.
"""

from atlas.edge.openapi.operator_document import build_operator_document
from atlas.edge.openapi.public import build_document, build_route

__all__ = ["build_document", "build_operator_document", "build_route"]
