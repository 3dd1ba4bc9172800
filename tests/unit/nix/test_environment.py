"""A Nix program's environment is built from nothing."""

from niximage.nix.programs import NixStore, environment


def settings(store: NixStore) -> dict[str, str]:
    lines = environment(store, {})["NIX_CONFIG"].split("\n")
    return {name: value for name, _, value in (line.partition(" = ") for line in lines)}


def test_nothing_but_what_is_listed_is_inherited() -> None:
    found = environment(
        NixStore(),
        {
            "PATH": "/x",
            "HOME": "/home/me",
            "NIX_PATH": "nixpkgs=/channels",
            "NIXPKGS_ALLOW_UNFREE": "1",
            "NIX_CONFIG": "substituters = https://evil",
            "NIXIMAGE_BUCKET": "gs://secret",
            "GOOGLE_APPLICATION_CREDENTIALS": "/key.json",
        },
    )
    assert sorted(found) == [
        "HOME",
        "LC_ALL",
        "NIX_CONFIG",
        "NIX_CONF_DIR",
        "NIX_USER_CONF_FILES",
        "PATH",
    ]
    assert "evil" not in found["NIX_CONFIG"]


def test_without_a_path_there_is_a_usual_one() -> None:
    assert "/usr/bin" in environment(NixStore(), {})["PATH"].split(":")


def test_substituters_and_keys_are_the_settings_own() -> None:
    found = settings(NixStore(("https://a", "https://b"), ("a-1:k", "b-1:k"), max_jobs=3))
    assert found["substituters"] == "https://a https://b"
    assert found["trusted-public-keys"] == "a-1:k b-1:k"
    assert found["max-jobs"] == "3"
    assert found["build-users-group"] == ""
    assert found["experimental-features"] == "nix-command"


def test_no_substituters_means_none_at_all() -> None:
    assert settings(NixStore())["substituters"] == ""


def test_the_machine_s_own_configuration_stays_where_asked_for() -> None:
    found = environment(NixStore(substituters=None), {})
    assert "NIX_CONF_DIR" not in found
    assert "substituters" not in found["NIX_CONFIG"]
