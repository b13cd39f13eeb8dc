"""Find incompatible changes in lists and HTTP interfaces: removed items, changed types and new requirements."""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


def gone(golden: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List keys or columns that are missing or have a type that the golden ones do not have."""
    found = []
    for name, types in golden.items():
        if name not in now:
            found.append(f"{name} is gone")
        elif not set(_listed(now[name])) <= set(_listed(types)):
            found.append(f"{name}: {' or '.join(_listed(types))} has become {' or '.join(_listed(now[name]))}")
    return found


def _listed(types: Any) -> list[str]:
    return [types] if isinstance(types, str) else list(types)


def broken(golden: Schema, now: Schema) -> list[str]:
    """List places where a client of the golden OpenAPI document would fail with the current one."""
    return _Comparison(golden, now).operations()


class _Comparison:
    """Compare two documents: requests may accept more types but not require more, and responses the reverse."""

    def __init__(self, golden: Schema, now: Schema) -> None:
        self.golden, self.now = golden, now
        self.found: list[str] = []
        self.seen: set[tuple[str, str, bool]] = set()

    def operations(self) -> list[str]:
        for path, methods in self.golden["paths"].items():
            for method, operation in methods.items():
                at = f"{method} {path}"
                other = self.now["paths"].get(path, {}).get(method)
                if other is None:
                    self.found.append(f"{at} is gone")
                else:
                    self.parameters(operation, other, at)
                    self.request(operation.get("requestBody", {}), other.get("requestBody", {}), at)
                    for code, response in operation["responses"].items():
                        self.contents(response, other["responses"].get(code), f"{at} {code}", sent=False)
        return self.found

    def parameters(self, golden: Schema, now: Schema, at: str) -> None:
        known, found = ({(p["in"], p["name"]): p for p in each.get("parameters", [])} for each in (golden, now))
        for key, parameter in known.items():
            if key not in found:
                self.found.append(f"{at}: parameter {key[1]} is gone")
            else:
                self.schema(parameter["schema"], found[key]["schema"], f"{at} {key[1]}", sent=True)
        for key, parameter in found.items():
            if parameter.get("required") and not known.get(key, {}).get("required"):
                self.found.append(f"{at}: parameter {key[1]} is required")

    def request(self, golden: Schema, now: Schema, at: str) -> None:
        if now.get("required") and not golden.get("required"):
            self.found.append(f"{at}: a body is required")
        if golden:
            self.contents(golden, now, f"{at} body", sent=True)

    def contents(self, golden: Schema, now: Schema | None, at: str, *, sent: bool) -> None:
        if now is None:
            self.found.append(f"{at} is gone")
            return
        for kind, content in golden.get("content", {}).items():
            if kind not in now.get("content", {}):
                self.found.append(f"{at}: {kind} is gone")
            else:
                self.schema(content.get("schema", {}), now["content"][kind].get("schema", {}), at, sent=sent)

    def schema(self, golden: Schema, now: Schema, at: str, *, sent: bool) -> None:
        pair = (str(golden), str(now), sent)
        if pair in self.seen:
            return
        self.seen.add(pair)
        known, found = _by_type(golden, self.golden), _by_type(now, self.now)
        if wrong := (known.keys() - found.keys()) if sent else (found.keys() - known.keys()):
            self.found.append(f"{at}: {', '.join(sorted(wrong))} {'is not taken any more' if sent else 'is new there'}")
        for kind in known.keys() & found.keys():
            self.of_one_type(known[kind], found[kind], at, sent=sent)

    def of_one_type(self, golden: Schema, now: Schema, at: str, *, sent: bool) -> None:
        for name, property_ in golden.get("properties", {}).items():
            if name not in now.get("properties", {}):
                self.found.append(f"{at}/{name} is gone")
            else:
                self.schema(property_, now["properties"][name], f"{at}/{name}", sent=sent)
        required = set(golden.get("required", ())), set(now.get("required", ()))
        for name in sorted(required[1] - required[0] if sent else required[0] - required[1]):
            self.found.append(f"{at}/{name} {'is required' if sent else 'may be missing'}")
        if "items" in golden:
            self.schema(golden["items"], now.get("items", {}), f"{at}[]", sent=sent)
        if sent and (refused := set(golden.get("enum", ())) - set(now.get("enum", golden.get("enum", ())))):
            self.found.append(f"{at}: {', '.join(sorted(refused))} is not taken any more")


def _by_type(schema: Schema, document: Schema) -> dict[str, Schema]:
    """Return the alternatives of a schema by their types."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _by_type(document["components"]["schemas"].get(name, {"type": f"no schema {name}"}), document)
    found: dict[str, Schema] = {}
    for alternative in schema.get("anyOf", schema.get("oneOf", ())):
        found |= _by_type(alternative, document)
    return found or {schema.get("type", "anything"): schema}
