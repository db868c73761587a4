"""Lists: pages, selectors, resource versions, representations."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.devcluster.clients import Answer, Api, config_map, pod
from virtual_kubelet.devcluster import DevCluster

MAPS = "/api/v1/namespaces/default/configmaps"
ALL_MAPS = "/api/v1/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MINE = "labelSelector=mine"
TABLE = {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}


async def _maps(api: Api, names: str) -> None:
    for name in names:
        await api.create(MAPS, config_map(name, labels={"mine": "yes", "name": name}))


async def _pages(api: Api, limit: int) -> list[Answer]:
    pages = [await api.get(f"{MAPS}?{MINE}&limit={limit}")]
    while token := pages[-1].body["metadata"].get("continue"):
        pages.append(await api.get(f"{MAPS}?{MINE}&limit={limit}&continue={token}"))
    return pages


class TestPages:
    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
    async def test_pages_make_up_the_list_in_order(self, api: Api, limit: int) -> None:
        await _maps(api, "edcba")
        pages = await _pages(api, limit)
        assert [name for page in pages for name in page.names] == list("abcde")
        assert all(len(page.names) == limit for page in pages[:-1])

    async def test_without_selectors_each_page_says_how_many_remain(self, api: Api) -> None:
        await _maps(api, "abc")
        everything = await api.get(MAPS)
        page = await api.get(f"{MAPS}?limit=2")
        assert page.body["metadata"]["remainingItemCount"] == len(everything.names) - 2

    async def test_all_pages_show_one_moment(self, api: Api) -> None:
        await _maps(api, "abcd")
        first = await api.get(f"{MAPS}?{MINE}&limit=2")
        await api.delete(f"{MAPS}/c")
        await _maps(api, "e")
        await api.patch(f"{MAPS}/d", {"data": {"a": "changed"}})
        token = first.body["metadata"]["continue"]
        second = await api.get(f"{MAPS}?{MINE}&limit=9&continue={token}")
        assert second.names == ["c", "d"]
        assert second.body["items"][1]["data"] == {"a": "b"}
        assert second.body["metadata"]["resourceVersion"] == first.body["metadata"]["resourceVersion"]
        assert "continue" not in second.body["metadata"]

    async def test_a_token_from_before_compaction_has_expired_and_brings_one_that_goes_on(
        self, api: Api, cluster: DevCluster
    ) -> None:
        await _maps(api, "abcd")
        token = (await api.get(f"{MAPS}?{MINE}&limit=2")).body["metadata"]["continue"]
        await api.delete(f"{MAPS}/c")
        cluster.faults.compact("configmaps")
        expired = await api.get(f"{MAPS}?{MINE}&limit=2&continue={token}")
        assert (expired.status, expired.reason) == (410, "Expired")
        assert expired.message.startswith("The provided continue parameter is too old to display a consistent list")
        fresh = expired.body["metadata"]["continue"]
        assert (await api.get(f"{MAPS}?{MINE}&limit=2&continue={fresh}")).names == ["d"]

    @pytest.mark.parametrize(
        ("token", "why"),
        [
            ("zz", "invalid character"),
            ("e30", 'server does not recognize this encoded version ""'),
            ("eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ", "incorrect encoded start resourceVersion (version meta.k8s.io/v1)"),
        ],
    )
    async def test_a_token_that_is_none_is_400(self, api: Api, token: str, why: str) -> None:
        answer = await api.get(f"{MAPS}?continue={token}")
        assert (answer.status, answer.reason) == (400, "BadRequest")
        assert answer.message.startswith(f"invalid continue token: continue key is not valid: {why}")

    async def test_a_token_brings_its_own_revision(self, api: Api) -> None:
        await _maps(api, "ab")
        token = (await api.get(f"{MAPS}?{MINE}&limit=1")).body["metadata"]["continue"]
        answer = await api.get(f"{MAPS}?{MINE}&limit=1&continue={token}&resourceVersion=5")
        why = "specifying resource version is not allowed when using continue"
        assert (answer.status, answer.message) == (400, why)
        assert (await api.get(f"{MAPS}?{MINE}&limit=1&continue={token}&resourceVersion=0")).names == ["b"]

    async def test_a_full_page_before_others_that_are_not_selected_has_a_token(self, api: Api) -> None:
        await _maps(api, "ab")
        page = await api.get(f"{MAPS}?fieldSelector=metadata.name!%3Dkube-root-ca.crt&limit=2")
        assert page.names == ["a", "b"]
        rest = await api.get(f"{MAPS}?{MINE}&limit=2&continue={page.body['metadata']['continue']}")
        assert (rest.names, rest.body["metadata"].get("continue")) == ([], None)

    async def test_a_list_at_any_revision_does_not_page(self, api: Api) -> None:
        await _maps(api, "abc")
        answer = await api.get(f"{MAPS}?{MINE}&limit=1&resourceVersion=0")
        assert (answer.names, answer.body["metadata"].get("continue")) == (["a", "b", "c"], None)


class TestSelectors:
    @pytest.mark.parametrize(
        ("selector", "names"),
        [
            ("name%3Da", "a"),
            ("name%3D%3Da", "a"),
            ("mine,name!%3Da", "bc"),
            ("name+in+(a,b)", "ab"),
            ("mine,name+notin+(a,b)", "c"),
            ("mine", "abc"),
            ("mine,!name", ""),
            ("mine,size%3E5", "b"),
            ("mine,size%3C5", "a"),
        ],
    )
    async def test_labels(self, api: Api, selector: str, names: str) -> None:
        for name, more in (("a", {"size": "3"}), ("b", {"size": "10"}), ("c", {})):
            await api.create(MAPS, config_map(name, labels={"mine": "yes", "name": name, **more}))
        assert (await api.get(f"{MAPS}?labelSelector={selector}")).names == list(names)

    @pytest.mark.parametrize(
        ("selector", "why"),
        [
            ("a+b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("%3D", "found '=', expected: !, identifier, or 'end of string'"),
            ("a+in+b", "unable to parse requirement: found 'b' expected: '('"),
            ("a,", "found '', expected: identifier after ','"),
            ("a%3Db%3Dc", "found '=', expected: ',' or 'end of string'"),
            ("-a", 'unable to parse requirement: <nil>: Invalid value: "-a": name part must consist of'),
            ("a%3D-", 'unable to parse requirement: values[0][a]: Invalid value: "-": a valid label must be'),
            (
                "a%3Ex",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value",
            ),
        ],
    )
    async def test_labels_that_cannot_be_read_are_400(self, api: Api, selector: str, why: str) -> None:
        answer = await api.get(f"{MAPS}?labelSelector={selector}")
        assert (answer.status, answer.reason) == (400, "BadRequest")
        assert answer.message.startswith(why)

    async def test_fields_of_pods(self, api: Api) -> None:
        await api.create(PODS, pod("bound", nodeName="n", restartPolicy="Never"))
        await api.create(PODS, pod("free"))
        for selector, names in (
            ("spec.nodeName%3Dn", ["bound"]),
            ("spec.nodeName%3D", ["free"]),
            ("spec.nodeName!%3Dn", ["free"]),
            ("metadata.name%3Dfree", ["free"]),
            ("status.phase%3DPending,spec.restartPolicy%3DNever", ["bound"]),
            ("status.phase!%3DPending", []),
            ("metadata.namespace%3Dother", []),
        ):
            assert (await api.get(f"/api/v1/pods?fieldSelector={selector}")).names == names, selector

    @pytest.mark.parametrize(
        ("path", "why"),
        [
            (f"{PODS}?fieldSelector=spec.zzz%3D1", "field label not supported: spec.zzz"),
            (
                f"{MAPS}?fieldSelector=zz%3D1",
                '"zz" is not a known field selector: only "metadata.name", "metadata.namespace"',
            ),
            ("/api/v1/nodes?fieldSelector=metadata.namespace%3Dx", "field label not supported: metadata.namespace"),
            (f"{MAPS}?fieldSelector=zz", "invalid selector: 'zz'; can't understand 'zz'"),
            (f"{MAPS}?fieldSelector=a%3Db%3Dc", "invalid field selector: unescaped character in value: 61"),
        ],
    )
    async def test_fields_that_are_not_there_to_be_selected_are_400(self, api: Api, path: str, why: str) -> None:
        answer = await api.get(path)
        assert (answer.status, why in answer.message) == (400, True), answer.message


class TestRevisions:
    async def test_exactly_at_an_earlier_revision(self, api: Api) -> None:
        await _maps(api, "ab")
        then = (await api.get(f"{MAPS}?{MINE}")).body["metadata"]["resourceVersion"]
        await api.delete(f"{MAPS}/a")
        answer = await api.get(f"{MAPS}?{MINE}&resourceVersion={then}&resourceVersionMatch=Exact")
        assert (answer.names, answer.body["metadata"]["resourceVersion"]) == (["a", "b"], then)

    async def test_not_older_than_is_the_present(self, api: Api) -> None:
        await _maps(api, "ab")
        then = (await api.get(f"{MAPS}?{MINE}")).body["metadata"]["resourceVersion"]
        await api.delete(f"{MAPS}/a")
        answer = await api.get(f"{MAPS}?{MINE}&resourceVersion={then}&resourceVersionMatch=NotOlderThan")
        assert answer.names == ["b"]

    async def test_one_that_history_no_longer_knows_has_expired(self, api: Api, cluster: DevCluster) -> None:
        await _maps(api, "ab")
        then = (await api.get(MAPS)).body["metadata"]["resourceVersion"]
        await _maps(api, "c")
        cluster.faults.compact()
        answer = await api.get(f"{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")
        assert (answer.status, answer.message) == (410, "The resourceVersion for the provided list is too old.")

    @pytest.mark.parametrize("match", ["", "&resourceVersionMatch=NotOlderThan", "&resourceVersionMatch=Exact"])
    async def test_one_of_the_future_is_a_time_out(self, api: Api, match: str) -> None:
        answer = await api.get(f"{MAPS}?resourceVersion=99999999{match}")
        assert (answer.status, answer.reason, answer.headers["Retry-After"]) == (504, "Timeout", "1")
        assert answer.message.startswith("Timeout: Too large resource version: 99999999, current: ")
        assert answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("resourceVersionMatch=Exact", "resourceVersionMatch"),
            ("resourceVersion=0&resourceVersionMatch=Exact", "resourceVersionMatch"),
            ("resourceVersion=1&resourceVersionMatch=Zz", "resourceVersionMatch"),
            ("sendInitialEvents=true", "sendInitialEvents"),
        ],
    )
    async def test_options_that_do_not_go_together_are_invalid(self, api: Api, query: str, field: str) -> None:
        answer = await api.get(f"{MAPS}?{query}")
        assert (answer.status, [name for name, _ in answer.causes]) == (422, [field])

    async def test_of_selectors_the_one_of_labels_is_read_first(self, api: Api) -> None:
        answer = await api.get(f"{MAPS}?fieldSelector=zz&labelSelector=a%2C")
        assert answer.message == "found '', expected: identifier after ','"

    async def test_each_option_that_is_wrong_is_named(self, api: Api) -> None:
        answer = await api.get(f"{MAPS}?resourceVersionMatch=Zz&continue=zz&sendInitialEvents=1")
        assert answer.message == (
            'ListOptions.meta.k8s.io "" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden '
            "unless resourceVersion is provided, resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when "
            'continue is provided, resourceVersionMatch: Unsupported value: "Zz": supported values: "Exact", '
            '"NotOlderThan", "", sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list]'
        )

    @pytest.mark.parametrize("number", ["x", "1_0", "٣", " 1"])
    async def test_numbers_that_are_none(self, api: Api, number: str) -> None:
        answer = await api.get(f"{MAPS}?limit={quote(number)}")
        assert (answer.status, answer.message) == (400, f'strconv.ParseInt: parsing "{number}": invalid syntax')

    async def test_a_revision_that_is_none_is_wrong_for_a_list_and_an_error_of_the_servers_elsewhere(
        self, api: Api
    ) -> None:
        why = 'resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax'
        answer = await api.get(f"{MAPS}?resourceVersion=abc")
        assert (answer.status, answer.message) == (400, f"invalid resource version: {why}")
        for path in (f"{MAPS}?watch=1&resourceVersion=abc", f"{MAPS}/kube-root-ca.crt?resourceVersion=abc"):
            answer = await api.get(path)
            assert (answer.status, answer.message) == (500, why)

    async def test_one_object_of_the_future_is_a_time_out(self, api: Api) -> None:
        answer = await api.get(f"{MAPS}/kube-root-ca.crt?resourceVersion=99999999")
        assert (answer.status, answer.reason) == (504, "Timeout")

    async def test_a_page_at_an_earlier_revision_is_of_that_revision(self, api: Api) -> None:
        await _maps(api, "ab")
        then = (await api.get(MAPS)).body["metadata"]["resourceVersion"]
        await api.delete(f"{MAPS}/b")
        page = await api.get(f"{MAPS}?{MINE}&limit=5&resourceVersion={then}")
        assert (page.names, page.body["metadata"]["resourceVersion"]) == (["a", "b"], then)
        one = await api.get(f"{MAPS}?fieldSelector=metadata.name%3Db&limit=5&resourceVersion={then}")
        assert one.names == []


class TestRepresentations:
    async def test_metadata_only(self, api: Api) -> None:
        await _maps(api, "a")
        answer = await api.get(
            f"{MAPS}?{MINE}", headers={"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
        )
        assert answer.body["kind"] == "PartialObjectMetadataList"
        assert answer.body["items"][0].keys() == {"kind", "apiVersion", "metadata"}

    async def test_a_table_with_pages(self, api: Api) -> None:
        await _maps(api, "abc")
        answer = await api.get(f"{MAPS}?{MINE}&limit=2", headers=TABLE)
        assert [row["cells"][0] for row in answer.body["rows"]] == ["a", "b"]
        assert answer.body["metadata"]["continue"]

    async def test_what_cannot_be_answered_is_406(self, api: Api) -> None:
        answer = await api.get(MAPS, headers={"Accept": "text/html"})
        assert (answer.status, answer.reason) == (406, "NotAcceptable")

    async def test_of_all_namespaces_and_of_one_that_is_not_there(self, api: Api) -> None:
        await api.create("/api/v1/namespaces", {"metadata": {"name": "other"}})
        await api.create("/api/v1/namespaces/other/configmaps", config_map("z", labels={"mine": "yes"}))
        await _maps(api, "a")
        assert (await api.get(f"{ALL_MAPS}?{MINE}")).names == ["a", "z"]
        assert (await api.get("/api/v1/namespaces/nope/configmaps")).names == []
