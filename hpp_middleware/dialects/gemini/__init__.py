"""Google's ``generateContent``: of the Gemini API, and of Vertex AI, which differ in where it is and who may ask."""

from hpp_middleware.dialects.gemini.dialect import Gemini, Vertex

__all__ = ["Gemini", "Vertex"]
