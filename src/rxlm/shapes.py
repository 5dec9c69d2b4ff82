"""Shapes of tensors in annotations: `Float[Tensor, "B T D"]` is a tensor of floating-point numbers with three axes;
`Shaped` is one of any type.

To a type checker, and without the package jaxtyping, it is a plain `Tensor`. Tests install jaxtyping and check these
annotations in every call (tests/shape_checks.py): in one call, axes of one name have one size. `#B` may also be 1,
`*B` is any number of axes, and `_` has any size.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Annotated as Bool
    from typing import Annotated as Float
    from typing import Annotated as Int
    from typing import Annotated as Shaped
else:
    try:
        from jaxtyping import Bool, Float, Int, Shaped
    except ImportError:

        class _Unchecked:
            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Float = Int = Shaped = _Unchecked

__all__ = ["Bool", "Float", "Int", "Shaped"]
