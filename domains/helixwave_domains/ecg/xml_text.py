"""XML files as trees, with those refused that define entities."""

import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from helixwave.errors import InputError

from helixwave_domains.ecg.formats.channels import package

_ROOT = re.compile(r"<(?:\w+:)?([A-Za-z]\w*)[\s>/]")
_NO_ELEMENTS = re.compile(r"<!--.*?-->|<[?!][^>]*>", re.DOTALL)


def root_name(head: bytes) -> str:
    """The name of the first element of a file that begins with `head`, without its namespace; empty if it is no XML."""
    wide = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = head.decode("utf-16" if wide else "utf-8", errors="ignore")
    found = _ROOT.search(_NO_ELEMENTS.sub("", text)) if text.lstrip("\ufeff \t\r\n").startswith("<") else None
    return found[1] if found else ""


def parse_xml(path: Path) -> Element:
    """The root of a file; search it with `{*}name`, whatever the namespace.

    Raises:
        InputError: it is not well-formed, or it defines entities, which can fill the memory or name other files.
    """
    refused: Any = package("defusedxml.common").DefusedXmlException
    try:
        return package("defusedxml.ElementTree").parse(path, forbid_entities=True, forbid_external=True).getroot()
    except refused as error:
        raise InputError(f"{path}: it defines XML entities, which no ECG needs. The file is not read") from error
    except (ParseError, UnicodeError) as error:
        raise InputError(f"{path}: not well-formed XML ({error}). Is the file complete?") from error


def text_of(element: Element | None, tag: str, default: str = "") -> str:
    """The text of the first element below that is called `tag`."""
    found = None if element is None else element.find(f".//{{*}}{tag}")
    return (found.text or "").strip() if found is not None else default
