"""What is kept and what goes, decided from a listing alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niximage.bucket import ObjectStat, keys
from niximage.bucket.layout import contents_digest, is_build_tag, read_listing, subject_of
from niximage.bucket.leases import LIFETIME, oldest_lease
from niximage.bucket.manifest import References
from niximage.bucket.sweep import Facts, cutoff, forsaken, levels, mark, plan
from niximage.image.descriptor import CONFIG, INDEX, LAYER_ZSTD, MANIFEST, Descriptor

REPOSITORY = "team-a/hello"
NOW = 1_000_000.0
CUT = NOW - 86_400
OLD, YOUNG = CUT - 1, CUT + 1


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def stat(key: str, time: float = OLD, size: int = 10) -> ObjectStat:
    return ObjectStat(key, size, 1, 1, time)


def image(number: int, *layers: int) -> References:
    blobs = (Descriptor(CONFIG, digest(number + 1000), 1),)
    return References(
        MANIFEST, (*blobs, *(Descriptor(LAYER_ZSTD, digest(each), 10) for each in layers))
    )


def index(*members: int) -> References:
    return References(
        INDEX, manifests=tuple(Descriptor(MANIFEST, digest(each), 10) for each in members)
    )


def test_keys_are_read_back() -> None:
    key = "ab" * 32
    listing = read_listing(
        stat(each)
        for each in (
            keys.blob(digest(1)),
            keys.layer_link("a/b/c", digest(2)),
            keys.revision_link(REPOSITORY, digest(3)),
            keys.tag_link(REPOSITORY, "v1"),
            keys.tag_index_link(REPOSITORY, "v1", digest(3)),
            keys.layer_record("team-a", key),
            keys.build_record("team-a", key),
            keys.contents_record("team-a", digest(4), "x86_64-linux"),
            keys.tag_record(REPOSITORY, "v1"),
            keys.lease("team-a", "1"),
            "elsewhere/x",
            f"{keys.ROOT}repositories/a/_uploads/x",
            keys.log("team-a", "0b0dd1b2"),
            f"{keys.OWN}unknown/x",
        )
    )
    assert listing.count == 14
    assert list(listing.blobs) == [digest(1)]
    assert list(listing.layers) == [("a/b/c", digest(2))]
    assert list(listing.revisions) == [(REPOSITORY, digest(3))]
    assert list(listing.tags) == [(REPOSITORY, "v1")]
    assert list(listing.tag_history) == [(REPOSITORY, "v1", digest(3))]
    assert {kind: len(found) for kind, found in listing.records.items()} == {
        "layers": 1,
        "builds": 1,
        "contents": 1,
        "logs": 1,
    }
    assert list(listing.tag_records) == [(REPOSITORY, "v1")]
    assert len(listing.leases) == 1
    assert contents_digest(listing.records["contents"][0].key) == digest(4)


@pytest.mark.parametrize(
    ("tag", "build", "subject"),
    [
        ("latest", False, None),
        ("ab" * 32, True, None),
        ("AB" * 32, False, None),
        (f"sha256-{'ab' * 32}", False, "sha256:" + "ab" * 32),
        (f"sha256-{'ab' * 32}.sig", False, "sha256:" + "ab" * 32),
        (f"sha256-{'ab' * 31}", False, None),
    ],
)
def test_kinds_of_tags(tag: str, build: bool, subject: str | None) -> None:
    assert is_build_tag(tag) is build
    assert subject_of(tag) == subject


@pytest.mark.parametrize(
    ("leases", "grace", "expected"),
    [
        ([], 3600.0, NOW - 3600),
        ([NOW - 10], 3600.0, NOW - 3600),
        ([NOW - 10, NOW - 7200], 3600.0, NOW - 7200 - 1200),
        ([NOW - 7200], 86_400.0, NOW - 86_400),
        ([NOW - LIFETIME - 1], 3600.0, NOW - 3600),
    ],
)
def test_the_cutoff_is_older_than_every_running_build(
    leases: list[float], grace: float, expected: float
) -> None:
    listing = read_listing(
        stat(keys.lease("team-a", str(number)), time) for number, time in enumerate(leases)
    )
    assert cutoff(listing.leases, now=NOW, grace=grace) == expected


def test_a_lease_of_a_build_that_died_goes() -> None:
    lease = stat(keys.lease("team-a", "1"))
    assert swept(facts(lease)) == [lease.key]
    assert swept(facts(stat(lease.key, YOUNG))) == []


def test_no_lease_is_none() -> None:
    assert oldest_lease([], now=NOW) is None


def facts(*objects: ObjectStat, **more: object) -> Facts:
    known = {digest(1): image(1, 11), digest(2): image(2, 12), digest(3): index(1)}
    return Facts(
        read_listing(objects),
        **{  # type: ignore[arg-type]
            "targets": {},
            "references": known,
            "cutoff": CUT,
            **more,
        },
    )


def links(number: int, *layers: int, time: float = OLD) -> list[ObjectStat]:
    blobs = [number + 1000, *layers]
    return [
        *(stat(keys.blob(digest(each)), time) for each in (*blobs, number)),
        *(stat(keys.layer_link(REPOSITORY, digest(each)), time) for each in blobs),
        stat(keys.revision_link(REPOSITORY, digest(number)), time),
    ]


def swept(case: Facts) -> list[str]:
    return [doomed.object.key for phase in plan(case).sweep for doomed in phase]


def test_what_nothing_names_goes_in_the_reverse_of_the_order_of_writing() -> None:
    tag = stat(keys.tag_link(REPOSITORY, "ab" * 32))
    case = facts(*links(1, 11), tag, targets={(REPOSITORY, "ab" * 32): digest(1)})
    kinds = [doomed.kind for phase in plan(case).sweep for doomed in phase]
    assert kinds == ["tag", "manifest", "link", "link", "blob", "blob", "blob"]
    assert forsaken(case) == {digest(1)}


@pytest.mark.parametrize(
    "alive",
    [
        {"roots": frozenset({digest(1)})},
        {"targets": {(REPOSITORY, "v1"): digest(1)}},
        {"cutoff": OLD - 1},
    ],
    ids=["status", "tag", "young"],
)
def test_each_root_keeps_its_image(alive: dict[str, object]) -> None:
    case = facts(*links(1, 11), stat(keys.tag_link(REPOSITORY, "v1")), **alive)
    assert swept(case) == []


def test_a_young_tag_of_a_build_keeps_its_image() -> None:
    tag = stat(keys.tag_link(REPOSITORY, "ab" * 32), YOUNG)
    case = facts(*links(1, 11), tag, targets={(REPOSITORY, "ab" * 32): digest(1)})
    assert swept(case) == []


def test_an_index_goes_before_its_members() -> None:
    case = facts(*links(1, 11), stat(keys.revision_link(REPOSITORY, digest(3))))
    manifests = [key for key in swept(case) if "revisions" in key]
    assert manifests == [keys.revision_link(REPOSITORY, digest(n)) for n in (3, 1)]


def test_only_images_in_use_are_renewed() -> None:
    case = facts(*links(1, 11), *links(2, 12, time=YOUNG), roots=frozenset({digest(1)}))
    touched = [found.key for found in plan(case, renew_before=YOUNG + 1).touch]
    assert touched == [keys.revision_link(REPOSITORY, digest(1))]


def test_marking_asks_for_the_manifests_that_it_needs() -> None:
    case = facts(*links(1, 11), roots=frozenset({digest(1)}), references={})
    assert mark(case).unread == {digest(1)}


def test_a_tag_that_leads_nowhere_goes() -> None:
    tag = stat(keys.tag_link(REPOSITORY, "v1"))
    case = facts(tag, targets={(REPOSITORY, "v1"): digest(1)})
    assert swept(case) == [tag.key]


def test_every_index_goes_before_its_members() -> None:
    images = {digest(1): image(1), digest(2): index(1), digest(3): index(1, 2), digest(4): None}
    assert levels(images) == [[digest(3), digest(4)], [digest(2)], [digest(1)]]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from([OLD, YOUNG])), max_size=6),
    st.frozensets(st.sampled_from([digest(n) for n in (1, 2, 3)])),
    st.frozensets(st.integers(0, 30)),
)
def test_no_plan_takes_part_of_what_it_leaves(
    written: list[tuple[int, float]], roots: frozenset[str], lost: frozenset[int]
) -> None:
    objects: dict[str, ObjectStat] = {}
    for number, time in written:
        made = (
            links(number, number + 10, time=time)
            if number < 3
            else [
                *links(1, 11, time=time),
                *(
                    stat(key, time)
                    for key in (keys.blob(digest(3)), keys.revision_link(REPOSITORY, digest(3)))
                ),
            ]
        )
        objects.update({each.key: each for each in made})
    before = [each for n, each in enumerate(objects.values()) if n not in lost]
    case = facts(*before, roots=roots)
    gone = set(swept(case))
    left = {each.key for each in before} - gone
    for repository, name in case.listing.revisions:
        if keys.revision_link(repository, name) not in left:
            continue
        references = case.references[name]
        assert references is not None
        needed = [keys.blob(name), *(keys.blob(each.digest) for each in references.blobs)]
        needed += [keys.layer_link(repository, each.digest) for each in references.blobs]
        needed += [keys.revision_link(repository, each.digest) for each in references.manifests]
        assert not gone & set(needed)
