"""Specs: every form of the grammar, the round trip through text, and errors that show the place."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravine.core.errors import RavineError, nearest, unknown
from ravine.core.spec import Call, Group, Spec, SpecError, parse, parse_links, parse_list, parse_schedules

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,7}", fullmatch=True).filter(lambda name: not name.endswith("-"))
values = (
    st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.booleans() | st.none() | st.text(max_size=8)
)  # fmt: skip


def calls(inner: st.SearchStrategy[Call]) -> st.SearchStrategy[Call]:
    arguments = st.lists(st.tuples(names, values), max_size=3, unique_by=lambda pair: pair[0]).map(tuple)
    return st.builds(Call, names, arguments, st.lists(inner, max_size=2).map(tuple))


call = st.recursive(st.builds(Call, names), calls, max_leaves=4)
several = st.lists(call, min_size=1, max_size=3).map(tuple)
groups = st.builds(Group, several, several | st.just(()), st.none() | names)
specs = st.builds(Spec, st.lists(groups, min_size=1, max_size=3).map(tuple), st.none() | names)


# ---------------------------------------------------------------- the round trip


@given(specs)
def test_a_spec_is_the_same_after_a_round_trip_through_text(spec: Spec) -> None:
    again = parse(str(spec))
    assert again == spec
    assert repr(again) == repr(spec)  # 1, 1.0 and true are equal, but not the same
    assert str(again) == str(spec)


@settings(max_examples=40)
@given(st.lists(specs, min_size=1, max_size=3))
def test_a_list_of_specs_is_the_same_after_a_round_trip(several: list[Spec]) -> None:
    assert parse_list(", ".join(map(str, several))) == several


@given(several)
def test_links_and_schedules_alone_are_the_same_after_a_round_trip(calls: tuple[Call, ...]) -> None:
    assert parse_links(" + ".join(map(str, calls))) == calls
    assert parse_schedules("*".join(map(str, calls))) == calls


@given(st.text(alphabet="ab1.e-+'\\\"()=,;:@* \n", max_size=24))
def test_any_text_is_a_spec_or_an_error_that_shows_the_place(text: str) -> None:
    try:
        spec = parse(text)
    except SpecError as error:
        lines = str(error).split("\n")
        assert len(lines) == 4
        assert lines[1] == "    " + text.replace("\n", " ")
        at = lines[2].index("^") - 4
        assert 0 <= at <= len(text)
        assert f"at position {at} of the spec" in lines[0]
    else:
        assert parse(str(spec)) == spec


# ---------------------------------------------------------------- the grammar, form by form


def one(text: str) -> Call:
    return parse(text).groups[0].links[0]


def test_a_name_alone() -> None:
    assert parse("sgd") == Spec((Group((Call("sgd"),)),))
    assert parse(" sgd( ) ") == parse("sgd")


def test_arguments_keep_their_order() -> None:
    call = one("adam(lr=0.001, beta2=0.99)")
    assert call == Call("adam", (("lr", 0.001), ("beta2", 0.99)))
    assert (call.get("lr"), call.get("beta1")) == (0.001, None)
    assert str(call.without("lr")) == "adam(beta2=0.99)"
    assert str(call.including(lr=1, eps=0.5)) == "adam(lr=1, beta2=0.99, eps=0.5)"


def test_links_chain_and_schedules_multiply() -> None:
    (group,) = parse("adam(lr=0.001, beta2=0.99) + decay(weight_decay=0.1) @ warmup(steps=100) * cosine()").groups
    assert [link.name for link in group.links] == ["adam", "decay"]
    assert group.schedules == (Call("warmup", (("steps", 100),)), Call("cosine"))
    assert str(group) == "adam(lr=0.001, beta2=0.99) + decay(weight_decay=0.1) @ warmup(steps=100) * cosine"


def test_groups_have_roles() -> None:
    spec = parse("hidden: momentum + orthogonalize(lr=0.02); rest: adam(lr=0.003) @ cosine()")
    assert [group.role for group in spec.groups] == ["hidden", "rest"]
    assert spec.groups[1].schedules == (Call("cosine"),)
    assert spec.name == "momentum+orthogonalize; adam"


def test_a_label_names_a_competitor() -> None:
    spec = parse("my-adam = adam(lr=0.1)")
    assert (spec.label, spec.name, str(spec)) == ("my-adam", "my-adam", "my-adam=adam(lr=0.1)")
    assert spec.unlabelled() == parse("adam(lr=0.1)")
    assert spec.unlabelled().name == "adam"
    assert parse("a=hidden: sgd; rest: adam").label == "a"


def test_calls_stand_inside_calls() -> None:
    call = one("lookahead(schedule_free(adam(lr=0.1)), steps=5) + decay")
    assert [inner.name for inner in call.inner] == ["schedule_free"]
    assert call.inner[0].inner[0] == Call("adam", (("lr", 0.1),))
    assert call.get("steps") == 5
    assert str(one("a(x=1, b + c, y=2)")) == "a(b + c, x=1, y=2)"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-3", -3), ("+3", 3), ("007", 7), ("1.", 1.0), (".5", 0.5), ("-.5", -0.5), ("1e-3", 0.001),
        ("1E3", 1000.0), ("2.5e+2", 250.0), ("inf", math.inf), ("-inf", -math.inf), ("+inf", math.inf),
        ("true", True), ("False", False), ("none", None), ("None", None),
        ("'a b'", "a b"), ('"a b"', "a b"), ("''", ""), (r"'it\'s'", "it's"), (r'"say \"x\""', 'say "x"'),
        (r"'back\\slash'", "back\\slash"), ("'a, b) + c'", "a, b) + c"), ("'naïve ∂'", "naïve ∂"),
    ],
)  # fmt: skip
def test_values(text: str, value: object) -> None:
    found = one(f"rule(x={text})").get("x")
    assert found == value
    assert type(found) is type(value)


def test_lists_are_split_at_commas_outside_parentheses() -> None:
    found = parse_list(
        "sgd, adam(lr=0.1, beta1=0.5), a=wrap(sgd, k=2) @ linear(steps=5, final=0), b = hidden: x; rest: y"
    )
    assert [str(spec) for spec in found] == [
        "sgd",
        "adam(lr=0.1, beta1=0.5)",
        "a=wrap(sgd, k=2) @ linear(steps=5, final=0)",
        "b=hidden: x; rest: y",
    ]
    assert parse_list("a=sgd,b=sgd")[0].unlabelled() == parse_list("a=sgd,b=sgd")[1].unlabelled()


def test_white_space_is_free() -> None:
    assert parse("\n adam ( lr = 0.1 ,\n\tbeta1=0.5 )+decay@warmup ( )*cosine ") == parse(
        "adam(lr=0.1, beta1=0.5) + decay @ warmup * cosine"
    )


def test_an_lr_is_added_to_the_first_link_of_one_group_that_has_none() -> None:
    assert str(parse("adam(beta1=0.5) + decay @ cosine").with_lr(0.1)) == "adam(beta1=0.5, lr=0.1) + decay @ cosine"
    with pytest.raises(RavineError, match=r"^lr is given beside 'adam\(lr=0\.2\)', which has one of its own$"):
        parse("adam(lr=0.2)").with_lr(0.1)
    with pytest.raises(RavineError, match=r"^lr is given beside 'hidden: sgd; rest: adam', which has several groups$"):
        parse("hidden: sgd; rest: adam").with_lr(0.1)


# ---------------------------------------------------------------- errors show the place

NAME = "expected the name of an optimizer or schedule"
VALUE = "expected a number, true, false, none or 'text'"


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("", 0, f"{NAME}, found the end"),
        ("   ", 0, f"{NAME}, found the end"),
        ("adam +", 6, f"{NAME}, found the end"),
        ("adam + + decay", 7, f"{NAME}, found '+'"),
        ("adam @", 6, f"{NAME}, found the end"),
        ("adam @ cosine *", 15, f"{NAME}, found the end"),
        ("adam; ", 5, f"{NAME}, found the end"),
        ("hidden: ", 7, f"{NAME}, found the end"),
        ("3", 0, f"{NAME}, found '3'"),
        ("adam decay", 5, "expected '+', '@', ';' or the end, found 'decay'"),
        ("sgd, adam", 3, "expected '+', '@', ';' or the end, found ','"),
        ("adam)", 4, "expected '+', '@', ';' or the end, found ')'"),
        ("adam +1", 5, "expected '+', '@', ';' or the end, found '+1'"),
        ("a=b=c", 3, "expected '+', '@', ';' or the end, found '='"),
        ("adam(lr=0.1", 11, "expected ',' or ')', found the end"),
        ("adam(lr=0.1 beta1=0.5)", 12, "expected ',' or ')', found 'beta1'"),
        ("adam(lr=0.1;)", 11, "expected ',' or ')', found ';'"),
        ("adam(lr=0.1,)", 12, f"{NAME}, found ')'"),
        ("adam(, lr=0.1)", 5, f"{NAME}, found ','"),
        ("adam(0.1)", 5, f"{NAME}, found '0.1'"),
        ("adam(lr=)", 8, f"{VALUE}, found ')'"),
        ("adam(lr=", 8, f"{VALUE}, found the end"),
        ("adam(mode=fast)", 10, f"{VALUE} (text needs quotes: 'fast'), found 'fast'"),
        ("adam(lr=0.1, lr=0.2)", 13, "'lr' is given twice"),
        ("adam(lr==1)", 8, f"{VALUE}, found '='"),
        ("adam(lr=1.2.3)", 8, "unexpected '1'"),
        ("adam(lr=1e)", 8, "unexpected '1'"),
        ("adam(lr=3x)", 8, "unexpected '3'"),
        ("adam(lr='open)", 8, 'unexpected "\'"'),
        ("adam & decay", 5, "unexpected '&'"),
        ("adam(lr=0.1)\n  $", 15, "unexpected '$'"),
        ("a(lr=" + "1" * 41 + ")", 5, "a number has at most 40 characters, found 41"),
        ("a(" * 22 + "b" + ")" * 22, 42, "expected at most 20 calls inside one another, found 'a'"),
    ],
)
def test_an_error_shows_the_place(text: str, at: int, message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(text)
    assert str(error.value) == (
        f"{message} at position {at} of the spec\n"
        f"    {text.replace(chr(10), ' ')}\n"
        f"    {' ' * at}^\n"
        "A spec looks like: adam(lr=0.001) + decay(weight_decay=0.1) @ warmup(steps=100) * cosine()"
    )


@pytest.mark.parametrize(
    ("parser", "text", "message"),
    [
        (parse_list, "sgd adam", "expected '+', '@', ';', ',' or the end, found 'adam' at position 4"),
        (parse_list, "sgd,", f"{NAME}, found the end at position 4"),
        (parse_schedules, "cosine + warmup", "expected '*' or the end, found '+' at position 7"),
        (parse_links, "sgd @ cosine", "expected '+' or the end, found '@' at position 4"),
    ],
)
def test_an_error_in_a_part_says_what_may_follow(parser: object, text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        parser(text)  # type: ignore[operator]
    assert str(error.value).startswith(message)


# ---------------------------------------------------------------- the one form of errors


def test_the_nearest_name_is_told() -> None:
    assert str(unknown("optimizer", "adamm", ["adam", "sgd"])) == (
        "unknown optimizer 'adamm': did you mean 'adam'? Allowed: adam, sgd."
    )
    assert str(unknown("thing", "zzz", ["b", "a"], "Do this.")) == "unknown thing 'zzz': Allowed: a, b. Do this."
    assert str(unknown("thing", "x", [])) == "unknown thing 'x': None is allowed here."
    assert (nearest("ADAM", ["adam", "sgd"]), nearest("quite another", ["adam"])) == ("adam", None)
    assert issubclass(RavineError, ValueError)
