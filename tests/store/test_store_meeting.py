"""How processes meet: names, directories, sockets, and who may come in."""

import os
import pickle
import socket
import stat
import sys

import pytest
from peers import peer, run, until

from pyray.store import (
    ObjectID,
    Store,
    StoreConnectionError,
    StoreError,
    StoreExistsError,
    meeting,
)

NOBODY = 65534


@pytest.fixture
def stores(place):
    """The directory of the sockets."""
    return place / f"pyray-{os.getuid()}" / "stores"


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def listening(path):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(str(path))
    made.listen()
    return made


class TestFiles:
    def test_are_private(self, stores):
        old = os.umask(0)
        try:
            with Store.create("private", capacity=1 << 20):
                assert mode(stores) == mode(stores.parent) == 0o700
                assert mode(stores / "private") == 0o600
                assert stat.S_ISSOCK(os.lstat(stores / "private").st_mode)
        finally:
            os.umask(old)

    def test_go_with_the_store(self, stores):
        with Store.create("a", capacity=1 << 20), Store.create("b", capacity=1 << 20):
            assert sorted(os.listdir(stores)) == ["a", "b"]
        assert os.listdir(stores) == []

    def test_go_with_the_process(self, stores):
        run("store = Store.create('a', capacity=1 << 20); store.put(np.zeros(1000))")
        assert os.listdir(stores) == []

    @pytest.mark.parametrize("which", ["parent", "stores"])
    def test_directories_that_are_open_to_others_are_refused(self, stores, which):
        Store.create("a", capacity=1 << 20).close()
        os.chmod(stores if which == "stores" else stores.parent, 0o755)
        with pytest.raises(PermissionError, match=r"mode is 0755.*chmod 700"):
            Store.create("a", capacity=1 << 20)
        with pytest.raises(PermissionError, match="chmod 700"):
            Store.connect("a")

    def test_links_are_refused(self, stores, place):
        (place / "elsewhere").mkdir(0o700)
        stores.parent.symlink_to(place / "elsewhere")
        with pytest.raises(PermissionError, match="is not a directory"):
            Store.create("a", capacity=1 << 20)

    def test_path_may_be_long(self, place, monkeypatch):
        deep = place / ("d" * 100) / ("e" * 100)
        deep.mkdir(parents=True)
        monkeypatch.setenv("PYRAY_TMPDIR", str(deep))
        name = "n" * 64
        with Store.create(name, capacity=1 << 20), Store.connect(name) as store:
            assert store.name == name

    def test_nothing_is_left_open(self):
        before = os.listdir("/proc/self/fd")
        with Store.create("a", capacity=1 << 20) as made:
            for _ in range(3):
                Store.connect("a").close()
            with pytest.raises(StoreExistsError):
                Store.create("a", capacity=1 << 20)
            until(lambda: not made._link.connections)
        assert os.listdir("/proc/self/fd") == before


class TestNames:
    @pytest.mark.parametrize(
        "name", ["", "a/b", "..", ".hidden", "-x", "a b", "n" * 65, "a\n", "ä"]
    )
    def test_wrong(self, name):
        for call in (Store.create, Store.connect):
            with pytest.raises(ValueError, match="cannot be the name"):
                call(name)

    @pytest.mark.parametrize("name", [None, 5, b"a"])
    def test_no_name(self, name):
        for call in (Store.create, Store.connect):
            with pytest.raises(TypeError):
                call(name)

    @pytest.mark.parametrize("capacity", [0, -1, 1 << 41, 1000])
    def test_capacity(self, capacity):
        with pytest.raises(ValueError, match="capacity"):
            Store.create("a", capacity=capacity)

    def test_capacity_is_a_share_of_the_memory_by_default(self):
        with Store.create("a") as store:
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            assert 0.29 < store.stats()["capacity"] / memory < 0.31

    def test_taken(self, store):
        with pytest.raises(StoreExistsError, match="'test' already") as caught:
            Store.create("test")
        assert isinstance(caught.value, FileExistsError)
        assert Store.connect("test").stats()["objects"] == 0

    def test_many_stores(self):
        stores = [Store.create(f"s{i}", capacity=1 << 20) for i in range(20)]
        keys = [store.put(i) for i, store in enumerate(stores)]
        for i, key in enumerate(keys):
            assert Store.connect(f"s{i}").get(key) == i
        for store in stores:
            store.close()


class TestConnect:
    def test_missing(self, stores):
        for _ in range(2):
            with pytest.raises(StoreConnectionError, match=r"no store 'a'.*Store.create"):
                Store.connect("a", timeout=0)
            Store.create("b", capacity=1 << 20)

    def test_waits_until_it_is_there(self, place):
        with peer("hear(); store = Store.create('late', capacity=1 << 20); tell(1); hear()") as one:
            one.go_on()
            store = Store.connect("late", timeout=None)
            assert one.told() == 1
            one.go_on()
            one.end()
            assert store.get(store.put(5)) == 5

    def test_does_not_answer(self, store, stores):
        with listening(stores / "silent") as _:
            with pytest.raises(StoreConnectionError, match="does not answer"):
                Store.connect("silent", timeout=0.01)

    def test_says_something_else(self, store, stores):
        with listening(stores / "strange") as listener:
            for answer in (b"x" * 20, meeting.GREETING.pack(b"pyray store 9", os.getpid())):
                client = socket.socket(socket.AF_UNIX)
                client.connect(str(stores / "strange"))
                server, _ = listener.accept()
                server.send(answer)
                with pytest.raises(StoreError, match="not one of this version"):
                    meeting.receive(client, "strange", os.getpid())

    def test_another_container(self, store, stores):
        client, server = socket.socketpair()
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]
        socket.send_fds(server, [meeting.GREETING.pack(meeting.MAGIC, 5)], fds)
        with pytest.raises(StoreError, match="PID namespace"):
            meeting.receive(client, "far", 0)

    def test_not_a_store(self, stores):
        """Descriptors of something else."""
        fds = [os.memfd_create("no store") for _ in range(2)]
        for fd in fds:
            os.ftruncate(fd, 1 << 16)
        from pyray.store._session import Session

        with pytest.raises(RuntimeError, match="not a session of this version"):
            Session.attach(fds[0], fds[1], -1, "client")

    def test_store_is_carried_as_its_name(self, store):
        key = store.put("here")
        other = pickle.loads(pickle.dumps(store))
        assert other is not store and other.get(key) == "here"
        assert store.stats()["processes"] == 2
        other.close()


class TestStale:
    def test_socket_of_a_killed_process_is_replaced(self, stores):
        with peer("s = Store.create('a', capacity=1 << 20); tell(1); hear()") as one:
            one.told()
            one.kill()
        assert os.listdir(stores) == ["a"]
        with pytest.raises(StoreConnectionError):
            Store.connect("a", timeout=0)
        with Store.create("a", capacity=1 << 20) as store:
            assert Store.connect("a").get(store.put(5)) == 5
        assert os.listdir(stores) == []

    def test_other_things_of_that_name_are_replaced(self, store, stores):
        (stores / "a").write_text("a file")
        with Store.create("a", capacity=1 << 20):
            pass
        assert os.listdir(stores) == ["test"]

    def test_anothers_socket_stays(self, stores):
        first = Store.create("a", capacity=1 << 20)
        os.unlink(stores / "a")
        with Store.create("a", capacity=1 << 20) as second:
            first.close()
            assert Store.connect("a").get(second.put(5)) == 5

    def test_one_of_several_at_once_wins(self):
        program = """
            hear()
            try:
                store = Store.create('a', capacity=1 << 20)
                tell("made")
            except StoreExistsError:
                tell("there")
            hear()
        """
        others = [peer(program) for _ in range(3)]
        running = [other.__enter__() for other in others]
        try:
            for one in running:
                one.go_on()
            assert sorted(one.told() for one in running) == ["made", "there", "there"]
            for one in running:
                one.go_on()
                one.end()
        finally:
            for other in others:
                other.__exit__(*sys.exc_info())


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
class TestOthers:
    def test_cannot_see_the_directory(self, store, place):
        os.chmod(place, 0o755)
        run(
            f"""
            os.setuid({NOBODY})
            os.environ["PYRAY_TMPDIR"] = {str(place)!r}
            from pyray.store import meeting
            for folder in (meeting.directory(), meeting.directory().replace("{NOBODY}", "0")):
                try:
                    os.listdir(folder)
                except (PermissionError, FileNotFoundError) as error:
                    print(type(error).__name__)
            meeting.directory = lambda: {str(place / "pyray-0" / "stores")!r}
            try:
                Store.connect("test", timeout=0)
            except PermissionError:
                print("refused")
            """
        )

    def test_are_refused_by_the_server(self, store, place, stores):
        """Somebody who could get at the socket nevertheless."""
        with peer(
            f"""
            from pyray.store import meeting
            import socket
            folder = os.open({str(stores)!r}, os.O_RDONLY)
            os.setuid({NOBODY})
            client = socket.socket(socket.AF_UNIX)
            tell(1)
            hear()
            client.connect({str(stores / "test")!r})
            try:
                meeting.receive(client, "test", {os.getpid()})
            except PermissionError as error:
                tell(str(error))
            """
        ) as other:
            other.told()
            for path in (stores / "test", stores, stores.parent, *place.parents, place):
                if path.owner() == "root" and str(path).startswith(str(place.parents[2])):
                    os.chmod(path, 0o777)
            other.go_on()
            assert other.told() == "the store 'test' refuses this process"
            other.end()
        assert store.stats()["processes"] == 1

    def test_are_no_servers(self, store, stores):
        """Somebody else's process behind a socket in our directory."""
        with peer(
            f"""
            import socket
            listener = socket.socket(socket.AF_UNIX)
            listener.bind({str(stores / "false")!r})
            os.setuid({NOBODY})
            listener.listen()
            tell(1)
            hear()
            """
        ) as other:
            other.told()
            with pytest.raises(PermissionError, match=f"user with id {NOBODY}"):
                Store.connect("false", timeout=0)
            other.go_on()
            other.end()


def test_imports_nothing_else_of_pyray():
    out = run(
        """
        import sys
        known = {name for name in sys.modules if name.startswith("pyray.store")}
        with Store.create("a", capacity=1 << 20) as store:
            store.create(key(1), 5)
            store.seal(key(1))
            store.get_buffers([key(1)])
            loaded = {name for name in sys.modules if name.startswith("pyray.store")}
            assert "pyray.store._values" not in loaded and "pyray.runtime" not in sys.modules
            store.put(1)
            assert "pyray.store._values" in sys.modules and "pyray.runtime" not in sys.modules
        print("fine")
        """
    )
    assert out == "fine\n"


def test_names_of_the_package():
    import pyray.store

    assert set(pyray.store.__all__) <= set(dir(pyray.store))
    assert issubclass(pyray.store.ObjectExistsError, StoreError)
    with pytest.raises(AttributeError, match="no attribute 'Stores'"):
        pyray.store.Stores  # noqa: B018
    assert isinstance(ObjectID(bytes(20)), pyray.store.ObjectID)
