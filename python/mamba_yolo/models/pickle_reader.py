"""stub"""


class Node: ...


def read_torch_archive(path): ...
