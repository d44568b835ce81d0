//! What templates may say and what they make, without a control plane around them.

use expect_test::{Expect, expect};
use minijinja::value::Serde;
use serde_json::{Value as Json, json};

use super::*;

fn document(views: Json) -> PolicyDocument {
    let document =
        json!({"version": 1, "meters": {}, "tiers": {}, "default_route": {"auth": "none"}, "views": views});
    serde_json::from_value(document).unwrap()
}

fn context(members: Json) -> BTreeMap<&'static str, Value> {
    let names = NAMES.iter().filter_map(|name| Some((*name, Value::from(Serde(members.get(name)?)))));
    names.collect()
}

/// Shows what a template makes of `me`, or what is wrong with it.
fn rendered(body: &str, me: Json) -> String {
    let views = match Views::compile(&document(json!({"v": {"body": body}}))) {
        Ok(views) => views,
        Err(faults) => return faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    match views.render("v", context(json!({ "me": me }))) {
        Ok(Made { status: 200, json }) => json,
        Ok(Made { status, json }) => format!("{status} {json}"),
        Err(fault) => format!("{fault} [{}]", fault.line.map(|line| line.to_string()).unwrap_or_default()),
    }
}

fn check(body: &str, me: Json, expected: Expect) {
    expected.assert_eq(&rendered(body, me));
}

#[test]
fn every_value_is_written_as_json() {
    let me = json!({"s": "a", "n": 12, "f": 1.5, "b": true, "z": null, "l": [1, "x"], "m": {"k": "v"}});
    check(
        "[{{ me.s }}, {{ me.n }}, {{ me.f }}, {{ me.b }}, {{ me.z }}, {{ me.l }}, {{ me.m }}, {{ me.s ~ me.n }}]",
        me.clone(),
        expect![[r#"["a", 12, 1.5, true, null, [1,"x"], {"k":"v"}, "a12"]"#]],
    );
    check(
        "[{{ me.missing }}, {{ me.missing.deeper[3] }}, {{ me.z.deeper }}]",
        me.clone(),
        expect!["[null, null, null]"],
    );
    check(
        "[{{ me.m | tojson }}, {{ me.l | first }}, {{ me.l | length }}]",
        me,
        expect![[r#"[{"k": "v"}, 1, 2]"#]],
    );
    check(
        r#"{% set inner %}{"name": {{ me.s }}}{% endset %}[{{ inner }}]"#,
        json!({"s": "\"}"}),
        expect![[r#"[{"name": "\"}"}]"#]],
    );
}

#[test]
fn no_value_changes_the_structure() {
    let hostile = [
        "\"",
        "\\",
        "\"}, \"admin\": true, {\"",
        "\n\r\t\0",
        "</script><script>",
        "\u{2028}\u{2029}",
        "{{ me }}",
        "{% raw %}",
    ];
    let templates = [
        "{\"name\": {{ me.s }}}",
        "{% autoescape false %}{\"name\": {{ me.s }}}{% endautoescape %}",
        "{\"name\": {{ me.s | e }}}",
        "{\"name\": {{ me.s | tojson }}}",
        "{\"name\": {{ me.s | default('x') }}}",
        "{% set copy %}{{ me.s }}{% endset %}{\"name\": {{ copy }}}",
        "{% macro m(v) %}{{ v }}{% endmacro %}{\"name\": {{ m(me.s) }}}",
        "{\"name\": {{ [me.s] | join('') }}}",
        "{\"name\": {{ '%s' | format(me.s) }}}",
        "{% autoescape 'html' %}{\"name\": {{ me.s | e }}}{% endautoescape %}",
        "{\"name\": {{ [me.s] | join('') | replace('', '') }}}",
        "{% set part %}N{% endset %}{\"name\": {{ part | replace('N', me.s) }}}",
        "{% set part %}%s{% endset %}{\"name\": {{ part | format(me.s) }}}",
        "{% set part %}{% endset %}{\"name\": {{ [part, me.s] | join }}}",
        "{% set part %}{% endset %}{\"name\": {{ [me.s] | join(part) }}}",
    ];
    for text in hostile {
        for template in templates {
            let made = rendered(template, json!({ "s": text }));
            let read: Json = serde_json::from_str(&made).unwrap_or_else(|_| panic!("{template}: {made}"));
            assert_eq!(read, json!({ "name": text }), "{template}");
        }
    }
    check(
        "{{ me.s | safe }}",
        json!({"s": "1"}),
        expect!["views.v.body: line 1 of the template: there is no filter `safe`"],
    );
}

#[test]
fn a_part_of_an_answer_that_is_changed_is_a_value_again() {
    let part = |expression: &str| format!("{{% set t %}}\"Hi N\"{{% endset %}}[{{{{ {expression} }}}}]");
    check(&part("t | replace('N', me.s)"), json!({"s": "\", 1, \""}), expect![[r#"["\"Hi \", 1, \"\""]"#]]);
    check(&part("t | trim('\"')"), json!({}), expect![[r#"["Hi N"]"#]]);
    check(&part("[t, me.s] | join(', ')"), json!({"s": "x"}), expect![[r#"["\"Hi N\", x"]"#]]);
    check(&part("[me.s, 1] | join(d=t)"), json!({"s": "x"}), expect![[r#"["\"x\"\"Hi N\"1"]"#]]);
    check(&part("t | split(' ')"), json!({}), expect![[r#"[["\"Hi","N\""]]"#]]);
    check(&part("t"), json!({}), expect![[r#"["Hi N"]"#]]);
    let filters = [
        "lower",
        "upper",
        "title",
        "capitalize",
        "replace('H', '\"')",
        "reverse",
        "trim('\"')",
        "join",
        "split",
        "lines",
        "list",
        "first",
        "last",
        "string",
        "unique",
        "sort",
        "min",
        "max",
        "format",
        "list | join",
        "list | map('upper')",
        "list | sum",
        "tojson",
        "e",
        "escape",
        "tojson | trim('\"')",
        "default",
    ];
    for filter in filters {
        for (end, expression) in [("", ""), ("[0]", ""), ("", "~ ''"), ("[1:]", "")] {
            let template = part(&format!("(t | {filter}){end} {expression}"));
            let made = rendered(&template, json!({}));
            let is_json = serde_json::from_str::<Json>(&made).is_ok();
            assert!(
                is_json || (made.contains("invalid operation") && !made.contains("no JSON")),
                "{template}: {made}"
            );
        }
    }
}

#[test]
fn numbers_are_shown_as_people_count() {
    let me = json!({"n": 5_368_709_120_u64, "x": 1_234_567, "u": "unlimited"});
    check(
        "[{{ me.n | gb }}, {{ me.n | gb(0) }}, {{ me.x | bytes('MB', 1) }}, {{ me.x | bytes('KiB') }}, {{ me.u | gb(2) }}, {{ me.no | gb }}]",
        me.clone(),
        expect![[r#"[5.0, 5, 1.2, 1205.63, "unlimited", null]"#]],
    );
    check(
        "[{{ me.x | money }}, {{ me.x | money(0) }}, {{ me.x | money(3) }}, {{ me.no | money(2) }}]",
        me.clone(),
        expect!["[12345.67, 1234567, 1234.567, null]"],
    );
    check(
        "{{ me.x | bytes('GIB') }}",
        me,
        expect![
            "the view v cannot be answered: invalid operation: bytes are counted in B, KB, MB, GB, TB, KiB, MiB, GiB, TiB, not GIB [1]"
        ],
    );
    check(
        "[{{ me.no | default(0) }}, {{ me.z | default(1) }}, {{ me.f | default(2) }}, {{ me.f | d(3, true) }}]",
        json!({"z": null, "f": false}),
        expect!["[0, 1, false, 3]"],
    );
    check("{{ range(3) | list + range(5, 1, -2) | list }}", json!({}), expect!["[0,1,2,5,3]"]);
}

#[test]
fn nothing_goes_on_without_end() {
    let forever =
        "{% for a in range(9999) %}{% for b in range(9999) %}{% set x = a %}{% endfor %}{% endfor %}1";
    check(forever, json!({}), expect!["the view v cannot be answered: it goes on for too long [1]"]);
    check(
        "{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}",
        json!({}),
        expect!["the view v cannot be answered: invalid operation: recursion limit exceeded [1]"],
    );
    check(
        "{{ range(10001) }}",
        json!({}),
        expect!["the view v cannot be answered: invalid operation: range makes at most 10000 numbers [1]"],
    );
    check(
        "{{ range(1, 5, 0) }}",
        json!({}),
        expect!["the view v cannot be answered: invalid operation: range needs a step that is not 0 [1]"],
    );
    let long = rendered("{% for a in range(1000) %}{{ me.s }}{% endfor %}", json!({"s": "x".repeat(5_000)}));
    assert!(long.contains("failed to write output"), "{long}");
    let doubled = "{% set x = [x, x] %}".repeat(40);
    let said = rendered(&format!("{{% set x = [1] %}}{doubled}{{{{ x }}}}"), json!({}));
    assert!(said.contains("more than 1048576 bytes"), "{said}");
}

#[test]
fn values_within_values_take_no_more_stack_than_there_is() {
    let deep = "{% set x = [x] %}".repeat(3_000);
    let shown = |end: &str| {
        let last = format!("{{% if n %}}{{{{ deeper(x, n - 1) }}}}{{% else %}}{{{{ {end} }}}}{{% endif %}}");
        let template =
            format!("{{% macro deeper(x, n) %}}{deep}{last}{{% endmacro %}}{{{{ deeper(1, 9) }}}}");
        std::thread::scope(|threads| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            thread.spawn_scoped(threads, || rendered(&template, json!({}))).unwrap().join().unwrap()
        })
    };
    assert_eq!(shown("x"), format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000)));
    assert_eq!(shown("(x ~ '') | length"), "60001");
    assert_eq!(shown("x == [x]"), "false");
    assert_eq!(shown("[x, [x]] | unique | sort | length"), "2");
    assert_eq!(shown("x | tojson | length"), "60001");
}

#[test]
fn what_grows_with_each_round_of_a_loop_is_not_there() {
    check(
        "{% set ns = namespace(x=1) %}\n{% for a in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        json!({}),
        expect![
            "views.v.body: line 1 of the template: there is no `namespace`; there are me, limit, plans, plan, title, description, usage, costs, request, now, ago"
        ],
    );
    for filter in ["indent(9)", "batch(9, 0)", "slice(9)", "pprint"] {
        let said = rendered(&format!("{{{{ me.s | {filter} }}}}"), json!({}));
        assert!(said.contains("there is no filter"), "{said}");
    }
    for format in ["%2000000000s", "%.100f", "%*d", "%(n)0100d", "%s %-100s", "%%%100s"] {
        let said = rendered("{{ me.s | format(1, 2) }}", json!({ "s": format }));
        assert!(said.contains("at most 2 digits"), "{format}: {said}");
    }
    check(
        "[{{ '%.2f EUR of 2027, %5d' | format(19.2, 7) }}]",
        json!({}),
        expect![[r#"["19.20 EUR of 2027,     7"]"#]],
    );
}

#[test]
fn a_template_may_say_with_which_status_it_is_answered() {
    let template = r#"{% if not me.s %}{% set status = 404 %}{% endif %}{"s": {{ me.s }}}"#;
    check(template, json!({"s": "x"}), expect![[r#"{"s": "x"}"#]]);
    check(template, json!({}), expect![[r#"404 {"s": null}"#]]);
    check(
        "{% set status = 302 %}1",
        json!({}),
        expect!["the view v cannot be answered: `status` is 302; set 200, or a status from 400 to 599 []"],
    );
    check(
        "{% set status = 'no' %}1",
        json!({}),
        expect!["the view v cannot be answered: `status` is no; set 200, or a status from 400 to 599 []"],
    );
}

#[test]
fn what_cannot_be_rendered_is_told_with_its_line() {
    check(
        "{\n\"a\": 1",
        json!({}),
        expect![
            "the view v cannot be answered: what it makes is no JSON: EOF while parsing an object at line 2 column 6 []"
        ],
    );
    check(
        "\n\n{{ me.s + 1 }}",
        json!({"s": null}),
        expect![
            "the view v cannot be answered: invalid operation: tried to use + operator on unsupported types none and number [3]"
        ],
    );
}

#[test]
fn a_template_that_cannot_be_read_is_refused_with_its_line() {
    check(
        "{\n{% if me %}\n",
        json!({}),
        expect!["views.v.body: line 2 of the template: unexpected end of input, expected end of block"],
    );
    check(
        "{\n{{ me.name }\n",
        json!({}),
        expect!["views.v.body: line 2 of the template: unexpected `}`, expected end of variable block"],
    );
    check(
        "{{ my.name }}\n{{ mine }}\n{{ limits('x') }}",
        json!({}),
        expect![[r#"
            views.v.body: line 1 of the template: there is no `my`; there are me, limit, plans, plan, title, description, usage, costs, request, now, ago
            views.v.body: line 2 of the template: there is no `mine`; there are me, limit, plans, plan, title, description, usage, costs, request, now, ago
            views.v.body: line 3 of the template: there is no `limits`; there are me, limit, plans, plan, title, description, usage, costs, request, now, ago"#]],
    );
    check(
        "{{ me.x | rounded }}\n{{ me.x is odder }}",
        json!({}),
        expect![[r#"
        views.v.body: line 1 of the template: there is no filter `rounded`
        views.v.body: line 2 of the template: there is no test `odder`"#]],
    );
    check(
        "{% include 'x' %}",
        json!({}),
        expect![
            "views.v.body: line 1 of the template: write all of the view in one template: there is no include, import, extends and block"
        ],
    );
    check(
        "{% for x in me.limits %}{{ x.limit }}{{ loop.index }}{% set y = x %}{{ y }}{% endfor %}",
        json!({}),
        expect![
            "the view v cannot be answered: what it makes is no JSON: EOF while parsing a value at line 1 column 0 []"
        ],
    );
}

#[test]
fn a_public_view_knows_no_user() {
    let views = json!({
        "a": {"public": true, "body": "{{ plans }} {{ plan('x') }} {{ now }} {{ request }}"},
        "b": {"public": true, "body": "{{ plans }}\n{{ me.subject }}"},
        "c": {"public": true, "body": "{% macro m() %}{{ usage() }}{% endmacro %}{{ m() }}"},
    });
    let faults = Views::compile(&document(views)).unwrap_err();
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    expect![[r#"
        views.b.body: line 2 of the template: leave out `me`: a public view knows no user
        views.c.body: line 1 of the template: leave out `usage`: a public view knows no user"#]]
    .assert_eq(&faults.join("\n"));
}

#[test]
fn a_view_is_known_by_what_it_refers_to() {
    let views = json!({
        "a": {"body": "{{ me.subject }}"}, "b": {"public": true, "jsonrpc": true, "body": "{{ plans }}"},
        "c": {"body": "{% macro m() %}{{ limit('x').used }}{% endmacro %}{{ m() }}"},
    });
    let views = Views::compile(&document(views)).unwrap();
    let shown = |name: &str| {
        let view = views.get(name).unwrap();
        let names: Vec<&str> = NAMES.into_iter().filter(|name| view.refers_to(&[name])).collect();
        format!("{} {} {}", view.is_public, view.is_jsonrpc, names.join(" "))
    };
    assert_eq!(shown("a"), "false false me");
    assert_eq!(shown("b"), "true true plans");
    assert_eq!(shown("c"), "false false limit");
    assert!(views.get("d").is_none());
}
