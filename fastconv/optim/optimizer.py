"""What all optimizers share: parameter groups, the step, the state dict and its packed form."""

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set

import numpy as np

from fastconv._checks import FLOATS, plain, real
from fastconv._threads import threads_for
from fastconv.autograd import Tensor


class Optimizer:
    """Base class of all optimizers.

    A subclass checks its options in ``_check_options``, checks what `load_state_dict` is given
    in ``_check_state``, names in ``_moments`` the arrays of its state that have a value for each
    one of the parameter, and changes one parameter in ``_update``.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The parameters; or groups, each a dict of ``"params"`` and of the options in which this
        group differs from `defaults`.
    defaults : dict
        The options of groups that do not say otherwise.

    Attributes
    ----------
    param_groups : list of dict
        Each with ``"params"``, a list of Tensors, and the options, which may be changed between
        steps.
    state : dict
        Maps a parameter to what the optimizer remembers of it, a dict of arrays and ints.
    defaults : dict

    Raises
    ------
    TypeError
        If `params` is not an iterable of Tensors or dicts, or an option has the wrong type.
    ValueError
        If there is no parameter, one occurs twice or is not a leaf, or an option is out of range.

    Examples
    --------
    >>> from fastconv import Tensor, optim
    >>> kernel, bias = Tensor([1.0], requires_grad=True), Tensor([0.0], requires_grad=True)
    >>> optimizer = optim.SGD([{"params": [kernel]}, {"params": bias, "lr": 0.5}], lr=0.25)
    >>> (kernel * 2 + bias * 2).sum().backward()
    >>> optimizer.step()
    >>> kernel.data, bias.data
    (array([0.5], dtype=float32), array([-1.], dtype=float32))
    """

    _moments = ()

    def __init__(self, params, defaults):
        self._check_options(defaults)
        self.defaults = dict(defaults)
        self.state = defaultdict(dict)
        self.param_groups = []
        for group in _as_groups(params):
            self.add_param_group(group)
        if not any(group["params"] for group in self.param_groups):
            raise ValueError(f"params must hold at least one Tensor, got {self.param_groups!r}")

    def add_param_group(self, param_group):
        """Take more parameters, for example of layers that have been frozen so far.

        Parameters
        ----------
        param_group : dict
            ``"params"``, a Tensor or an iterable of Tensors, and any options.
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise TypeError(f"param_group must be a dict with 'params', got {param_group!r}")
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(_ordered(params))
        group = {**self.defaults, **param_group, "params": params}
        self._check_options(group)
        known = {id(param) for other in self.param_groups for param in other["params"]}
        for i, param in enumerate(params):
            if not isinstance(param, Tensor):
                raise TypeError(f"params[{i}] must be a Tensor, got {type(param).__name__}")
            if not param.is_leaf:
                raise ValueError(f"params[{i}] must be a leaf, not the result of an operator")
            if id(param) in known:
                raise ValueError(f"params[{i}], of shape {param.shape}, must not occur twice")
            known.add(id(param))
        self.param_groups.append(group)

    def zero_grad(self, set_to_none=True):
        """Forget the gradients of all parameters.

        Parameters
        ----------
        set_to_none : bool, default True
            Set ``.grad`` to None; otherwise fill the arrays there with zeros.
        """
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif param.grad is not None:
                    param.grad.fill(0)

    def step(self, closure=None):
        """Change every parameter that has a gradient, in place.

        Parameters
        ----------
        closure : callable, optional
            Called first; computes the loss and the gradients and returns the loss.

        Returns
        -------
        What `closure` returned, or None.

        Raises
        ------
        TypeError, ValueError
            If a gradient has not the shape and dtype of its parameter, a parameter is read-only
            or not of floats, or has another shape than at its last step. No parameter has been
            changed then.
        """
        loss = None if closure is None else closure()
        for i, group in enumerate(self.param_groups):
            self._check_options(group)
            for j, param in enumerate(group["params"]):
                if param.grad is not None:
                    self._check_parameter(f"param_groups[{i}]['params'][{j}]", param)
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    data, grad = np.asarray(param.data), np.asarray(param.grad)
                    self._update(data, grad, self.state[param], group)
        return loss

    def _check_parameter(self, name, param):
        """Raise unless data, gradient and state can go through a step."""
        data, grad = param.data, param.grad
        if not isinstance(grad, np.ndarray):
            raise TypeError(f"{name}.grad must be None or an ndarray, got {type(grad).__name__}")
        plain(f"{name}.data", data), plain(f"{name}.grad", grad)  # nothing masked
        if data.dtype.type not in FLOATS:
            raise TypeError(f"{name}.data must be float32 or float64, got {data.dtype}")
        if grad.dtype != data.dtype:
            raise TypeError(
                f"{name}.grad must have dtype {data.dtype}, as its data, got {grad.dtype}"
            )
        if grad.shape != data.shape:
            raise ValueError(
                f"{name}.grad must have shape {data.shape}, as its data, got {grad.shape}"
            )
        if not data.flags.writeable:
            raise ValueError(f"{name}.data must be writable, got a read-only array")
        state = self.state.get(param)
        for key in self._moments if state else ():
            if key in state and state[key].shape != data.shape:
                raise ValueError(
                    f"{name}.data must have shape {state[key].shape}, as its {key}, "
                    f"got {data.shape}"
                )

    def _check_options(self, options):
        """Raise unless the values of `options`, the defaults or a group, are possible."""

    def _check_state(self, name, state, data):
        """Raise unless `state`, called `name`, can be the state of a parameter of this `data`."""

    def _update(self, data, grad, state, group):
        """Change `data` and `state` in place."""
        # What makes an optimizer; all else is shared.
        raise NotImplementedError(f"{type(self).__name__} must define _update")

    def state_dict(self):
        """All that a later `load_state_dict` needs to go on as if nothing had happened.

        Returns
        -------
        dict
            ``"state"``: {index of a parameter: {name: array or int}}; ``"param_groups"``: the
            groups, with indices in place of the parameters. The arrays are not copied: they
            change with the next step.

        See Also
        --------
        pack_state : makes it fit for ``fastconv.save``.
        """
        index = {}
        groups = []
        for group in self.param_groups:
            for param in group["params"]:
                index[param] = len(index)
            groups.append({**group, "params": [index[param] for param in group["params"]]})
        state = {index[p]: dict(entry) for p, entry in self.state.items() if entry}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict):
        """Take over the state and the options of an optimizer of the same kind.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned. Arrays are copied, and converted to the dtype of their
            parameter.

        Raises
        ------
        TypeError, ValueError
            If it does not fit this optimizer's groups and parameters. Nothing has changed then.
        """
        _check_parts("state_dict", state_dict)
        groups = self._loaded_groups(state_dict["param_groups"])
        params = {}
        for saved, group in zip(state_dict["param_groups"], groups, strict=True):
            params.update(zip(saved["params"], group["params"], strict=True))
        state = defaultdict(dict)
        for index, entry in state_dict["state"].items():
            name = f"state_dict['state'][{index!r}]"
            if index not in params:
                raise ValueError(f"{name} belongs to none of the {len(params)} parameters")
            data = params[index].data
            self._check_state(name, entry, data)
            state[params[index]] = {key: _copied(value, data) for key, value in entry.items()}
        self.param_groups, self.state = groups, state

    def _loaded_groups(self, saved_groups):
        """New groups: the saved options with this optimizer's parameters."""
        if len(saved_groups) != len(self.param_groups):
            raise ValueError(
                f"state_dict['param_groups'] must have {len(self.param_groups)} groups, as this "
                f"optimizer, got {len(saved_groups)}"
            )
        groups, seen = [], set()
        for i, (saved, group) in enumerate(zip(saved_groups, self.param_groups, strict=True)):
            name = f"state_dict['param_groups'][{i}]"
            missing = sorted(self.defaults.keys() - saved.keys())
            if missing:
                raise ValueError(f"{name} must have {missing}, got {sorted(saved)}")
            indices = saved["params"]
            if len(indices) != len(group["params"]):
                raise ValueError(
                    f"{name} must have {len(group['params'])} params, got {len(indices)}"
                )
            for index in indices:
                if index in seen:
                    raise ValueError(f"{name}['params'] repeats the index {index}, got {indices}")
                seen.add(index)
            self._check_options(saved)
            groups.append({**saved, "params": group["params"]})
        return groups


def pack_state(state_dict):
    """Split an optimizer's state dict into arrays and what JSON can hold, for ``fastconv.save``.

    Parameters
    ----------
    state_dict : dict
        From `Optimizer.state_dict`. Options must be None, bool, int, float, str, or tuples of
        these.

    Returns
    -------
    arrays : dict of str to ndarray
        The arrays, ``"0.momentum_buffer"`` that of the parameter of index 0; not copied.
    meta : dict
        The rest.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastconv
    >>> weight = fastconv.Tensor(np.ones(2), requires_grad=True)
    >>> weight.grad = np.array([1.0, -1.0])
    >>> optimizer = fastconv.optim.Adam([weight], lr=0.1)
    >>> optimizer.step()
    >>> arrays, meta = fastconv.optim.pack_state(optimizer.state_dict())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "adam.safetensors")
    ...     fastconv.save(arrays, path, metadata=meta)
    ...     arrays, meta = fastconv.load(path), fastconv.load_metadata(path)
    >>> optimizer.load_state_dict(fastconv.optim.unpack_state(arrays, meta))
    """
    _check_parts("state_dict", state_dict)
    arrays, scalars = {}, {}
    for index, entry in state_dict["state"].items():
        scalars[str(index)] = {}
        for name, value in entry.items():
            if isinstance(value, np.ndarray):
                arrays[f"{index}.{name}"] = value
            else:
                scalars[str(index)][name] = _plain(f"state[{index}][{name!r}]", value)
    groups = [
        {
            key: list(value) if key == "params" else _plain(f"param_groups[{i}][{key!r}]", value)
            for key, value in group.items()
        }
        for i, group in enumerate(state_dict["param_groups"])
    ]
    return arrays, {"state": scalars, "param_groups": groups}


def unpack_state(arrays, meta):
    """The state dict that `pack_state` split, also after a way through a file.

    Parameters
    ----------
    arrays : dict of str to ndarray
    meta : dict

    Returns
    -------
    dict
        For `Optimizer.load_state_dict`; the arrays are not copied.

    Raises
    ------
    ValueError
        If the two do not belong together.
    """
    _check_parts("meta", meta)
    for index in meta["state"]:
        if not index.isdecimal():
            raise ValueError(f"the keys of meta['state'] must be indices, got {index!r}")
    state = {
        int(index): {name: _tuples(value) for name, value in entry.items()}
        for index, entry in meta["state"].items()
    }
    for key, array in arrays.items():
        index, _, name = key.partition(".")
        if index not in meta["state"] or not name:
            raise ValueError(f"arrays[{key!r}] must begin with an index of meta['state'] and a dot")
        state[int(index)][name] = array
    groups = [
        {key: value if key == "params" else _tuples(value) for key, value in group.items()}
        for group in meta["param_groups"]
    ]
    return {"state": state, "param_groups": groups}


def update(kernel, grad, data, *moments, options):
    """Run a kernel over the memory of arrays of one shape; all but `grad` change in place."""
    order = data
    if data.ravel("K").flags.owndata or not data.dtype.isnative:  # gaps, or axes run backwards
        order = np.empty_like(data, data.dtype.newbyteorder("="))
    arrays = [grad, data, *moments]
    dense = [_in_order_of(array, order) for array in arrays]
    kernel(*[array.ravel("K") for array in dense], *options, threads_for(data.size))
    for i in range(1, len(arrays)):
        if dense[i] is not arrays[i]:
            arrays[i][...] = dense[i]


def _in_order_of(array, order):
    """`array` if kernels can read it in the memory order of `order`, otherwise such a copy."""
    same = array.strides == order.strides or (
        array.flags.c_contiguous and order.flags.c_contiguous  # strides of one place say nothing
    )
    if same and array.dtype == order.dtype and array.flags.aligned:
        return array
    copied = np.empty_like(order)
    copied[...] = array
    return copied


def at_least(name, value, minimum, below=math.inf):
    """`value` as a float, ``minimum <= value < below``."""
    number = real(name, value)
    if not minimum <= number < below:
        rule = f"at least {minimum}" if below == math.inf else f"in [{minimum}, {below})"
        raise ValueError(f"{name} must be {rule}, got {value}")
    return number


def boolean(name, value):
    """`value` as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a bool, got {value!r}")
    return bool(value)


def check_arrays(name, state, data, required=(), optional=()):
    """Raise unless `state` has these arrays, of the shape of `data`, and no other entries."""
    if not set(required) <= set(state) <= {*required, *optional}:
        names = [*required, *(f"perhaps {key}" for key in optional)]
        raise ValueError(f"{name} must have {', '.join(names)}, got {sorted(state)}")
    for key, value in state.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise TypeError(f"{name}[{key!r}] must be an array of floats, got {kind}")
        if value.shape != data.shape:
            raise ValueError(
                f"{name}[{key!r}] must have its parameter's shape {data.shape}, got {value.shape}"
            )


def _ordered(params):
    """`params`, which must be an iterable with an order."""
    if isinstance(params, (Tensor, Mapping, Set, str)) or not isinstance(params, Iterable):
        raise TypeError(
            "params must be an ordered iterable of Tensors or dicts, such as model.parameters(), "
            f"got {type(params).__name__}"
        )
    return params


def _as_groups(params):
    params = list(_ordered(params))
    if not params:
        raise ValueError("params must hold at least one Tensor, got an empty iterable")
    return params if isinstance(params[0], Mapping) else [{"params": params}]


def _check_parts(name, parts):
    """Raise unless `parts` has the form of a state dict, packed or not."""
    if not isinstance(parts, Mapping) or parts.keys() != {"state", "param_groups"}:
        raise ValueError(f"{name} must be a dict of 'state' and 'param_groups', got {parts!r}")
    state, groups = parts["state"], parts["param_groups"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Mapping) for v in state.values()):
        raise TypeError(f"{name}['state'] must map indices to dicts, got {state!r}")
    if not isinstance(groups, list) or not all(isinstance(v, Mapping) for v in groups):
        raise TypeError(f"{name}['param_groups'] must be a list of dicts, got {groups!r}")
    for group in groups:
        params = group.get("params")
        if not isinstance(params, list) or not all(type(index) is int for index in params):
            raise TypeError(
                f"{name}['param_groups'] must each have 'params', a list of ints, got {params!r}"
            )


def _copied(value, data):
    """A copy of a state's value; arrays of the shape of `data` get its dtype and memory order."""
    if isinstance(value, np.ndarray) and value.shape == data.shape:
        result = np.empty_like(data)
        result[...] = value
        return result
    return copy.deepcopy(value)


def _plain(name, value):
    """`value` without NumPy scalars, if JSON can hold it."""
    if isinstance(value, (np.generic, np.ndarray)) and not value.ndim:
        value = value.item()
    if isinstance(value, tuple):
        return tuple(_plain(f"{name}[{i}]", item) for i, item in enumerate(value))
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise TypeError(
            f"{name} must be None, a bool, int, float, str, or a tuple of these, "
            f"got {type(value).__name__}"
        )
    return value


def _tuples(value):
    """`value` with the tuples that JSON has made lists."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
