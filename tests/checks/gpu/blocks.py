"""What networks are built of, as Keras layers and as the converter writes them: one small file for each block."""

from collections.abc import Callable
from typing import Any

SIDE, CHANNELS = 32, 8

#: A block: Keras's layers, TensorFlow and a feature map of 32×32×8 → another map, of any size.
Block = Callable[[Any, Any, Any], Any]


def build(block: Block, side: int = SIDE) -> bytes:
    """photo → convolution → the block → mask of the photo's size, untrained, as a float32 .tflite."""
    import tensorflow as tf

    from portraitseg.models.keras_route import keras

    keras.utils.set_random_seed(5)
    layers = keras.layers
    image = keras.Input((side, side, 3), batch_size=1, name="image")
    x = layers.Conv2D(CHANNELS, 3, padding="same", activation="relu", name="stem")(image)
    x = block(layers, tf, x)
    if x.shape[1] > side:
        x = layers.AveragePooling2D(x.shape[1] // side, name="back")(x)
    elif x.shape[1:3] != (side, side):
        x = layers.Resizing(side, side, name="back")(x)
    x = layers.Conv2D(1, 1, kernel_initializer=keras.initializers.RandomNormal(0, 1.0), name="logits")(x)
    model = keras.Model(image, layers.Activation("sigmoid", name="mask")(x), name="block")
    return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def _gate(layers: Any, x: Any) -> Any:
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(x)
    hidden = layers.Conv2D(4, 1, activation="relu")(pooled)
    return layers.Conv2D(CHANNELS, 1, activation="sigmoid")(hidden)


def _attention(layers: Any, x: Any) -> Any:
    signal = layers.Conv2D(CHANNELS, 1)(layers.AveragePooling2D(2)(x))
    signal = layers.UpSampling2D(interpolation="bilinear")(signal)
    joined = layers.ReLU()(layers.Add()([layers.Conv2D(CHANNELS, 1)(x), signal]))
    return layers.Conv2D(1, 1, activation="sigmoid")(joined)


def _dense_gate(layers: Any, x: Any) -> Any:
    gate = layers.Dense(CHANNELS, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    return layers.Reshape((1, 1, CHANNELS))(gate)


def _instance_norm(layers: Any, tf: Any, x: Any) -> Any:
    mean = tf.reduce_mean(x, (1, 2), keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), (1, 2), keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-3)


def _normalized(layers: Any, tf: Any, x: Any) -> Any:
    """The same of layers that every back end takes: the mean repeated, its difference as a sum."""
    side = x.shape[1]

    def spread(y: Any) -> Any:
        return layers.UpSampling2D(side)(layers.GlobalAveragePooling2D(keepdims=True)(y))

    centred = layers.Subtract()([x, spread(x)])
    variance = layers.GlobalAveragePooling2D(keepdims=True)(layers.Multiply()([centred, centred]))
    return layers.Multiply()([centred, tf.math.rsqrt(variance + 1e-3)])


def _layer_norm(layers: Any, tf: Any, x: Any) -> Any:
    mean = tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), -1, keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-3)


def _shuffle(layers: Any, tf: Any, x: Any) -> Any:
    _, h, w, c = x.shape
    groups = layers.Reshape((h, w, 2, c // 2))(x)
    return layers.Reshape((h, w, c))(layers.Permute((1, 2, 4, 3))(groups))


def _shuffle_rank_4(layers: Any, tf: Any, x: Any) -> Any:
    _, h, w, c = x.shape
    groups = layers.Reshape((h * w, 2, c // 2))(x)
    return layers.Reshape((h, w, c))(layers.Permute((1, 3, 2))(groups))


def _shuffle_slices(layers: Any, tf: Any, x: Any) -> Any:
    half = x.shape[3] // 2
    left, right = x[..., :half], x[..., half:]
    parts = [part for i in range(half) for part in (left[..., i : i + 1], right[..., i : i + 1])]
    return layers.Concatenate()(parts)


def _spatial_attention(layers: Any, tf: Any, x: Any) -> Any:
    joined = layers.Concatenate()([tf.reduce_mean(x, -1, keepdims=True), tf.reduce_max(x, -1, keepdims=True)])
    return layers.Multiply()([x, layers.Conv2D(1, 7, padding="same", activation="sigmoid")(joined)])


def _aspp(layers: Any, tf: Any, x: Any) -> Any:
    branches = [layers.Conv2D(4, 3, padding="same", dilation_rate=rate)(x) for rate in (1, 2, 4)]
    pooled = layers.Conv2D(4, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Concatenate()([*branches, layers.Resizing(*x.shape[1:3])(pooled)])


def _pyramid(layers: Any, tf: Any, x: Any) -> Any:
    def branch(size: int) -> Any:
        pooled = layers.Conv2D(4, 1)(layers.AveragePooling2D(size)(x))
        return layers.UpSampling2D(size, interpolation="bilinear")(pooled)

    return layers.Concatenate()([x, *(branch(size) for size in (2, 4, 8))])


def _self_attention(layers: Any, tf: Any, x: Any) -> Any:
    y = layers.AveragePooling2D(4)(x)
    _, h, w, c = y.shape
    query, key, value = (layers.Reshape((h * w, c))(layers.Conv2D(c, 1)(y)) for _ in range(3))
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
    return layers.Reshape((h, w, c))(tf.matmul(weights, value))


def _transposed(size: int, stride: int, **keywords: Any) -> Block:
    return lambda layers, tf, x: layers.Conv2DTranspose(4, size, strides=stride, padding="same", **keywords)(x)


BLOCKS: dict[str, Block] = {
    "se": lambda k, tf, x: k.Multiply()([x, _gate(k, x)]),
    "se_gate_first": lambda k, tf, x: k.Multiply()([_gate(k, x), x]),
    "se_dense": lambda k, tf, x: k.Multiply()([x, _dense_gate(k, x)]),
    "se_add": lambda k, tf, x: k.Add()([x, _gate(k, x)]),
    "se_subtract": lambda k, tf, x: k.Subtract()([x, _gate(k, x)]),
    "se_sum": lambda k, tf, x: k.Multiply()([x, tf.sigmoid(0.01 * tf.reduce_sum(x, (1, 2), keepdims=True))]),
    "attention_gate": lambda k, tf, x: k.Multiply()([x, _attention(k, x)]),
    "attention_gate_first": lambda k, tf, x: k.Multiply()([_attention(k, x), x]),
    "attention_add": lambda k, tf, x: k.Add()([x, _attention(k, x)]),
    "attention_divide": lambda k, tf, x: x / (1.0 + _attention(k, x)),
    "reverse_attention": lambda k, tf, x: k.Multiply()([x, 1.0 - _attention(k, x)]),
    "one_minus": lambda k, tf, x: 1.0 - tf.sigmoid(x),
    "one_minus_map": lambda k, tf, x: tf.ones((1, SIDE, SIDE, 1)) - k.Conv2D(1, 1, activation="sigmoid")(x),
    "channel_attention": lambda k, tf, x: k.Multiply()([x, tf.sigmoid(tf.reduce_max(x, (1, 2), keepdims=True))]),
    "spatial_attention": _spatial_attention,
    "layer_norm": _layer_norm,
    "layer_norm_layer": lambda k, tf, x: k.LayerNormalization()(x),
    "instance_norm": _instance_norm,
    "instance_norm_widened": _normalized,
    "group_norm": lambda k, tf, x: k.GroupNormalization(2)(x),
    "batch_norm_behind_relu": lambda k, tf, x: k.BatchNormalization(moving_mean_initializer="ones")(x),
    "l2_norm": lambda k, tf, x: tf.math.l2_normalize(x, -1),
    "channel_shuffle": _shuffle,
    "channel_shuffle_rank_4": _shuffle_rank_4,
    "channel_shuffle_slices": _shuffle_slices,
    "channel_split": lambda k, tf, x: k.Concatenate()(tf.split(x, 2, axis=-1)[::-1]),
    "transposed_2_2": _transposed(2, 2),
    "transposed_3_2": _transposed(3, 2),
    "transposed_4_2": _transposed(4, 2),
    "transposed_3_1": _transposed(3, 1),
    "transposed_3_3": _transposed(3, 3),
    "transposed_4_4": _transposed(4, 4),
    "transposed_8_4": _transposed(8, 4),
    "transposed_relu": _transposed(4, 2, activation="relu"),
    "depth_to_space": lambda k, tf, x: tf.nn.depth_to_space(x, 2),
    "space_to_depth": lambda k, tf, x: tf.nn.space_to_depth(x, 2),
    "bilinear_2": lambda k, tf, x: k.UpSampling2D(2, interpolation="bilinear")(x),
    "bilinear_4": lambda k, tf, x: k.UpSampling2D(4, interpolation="bilinear")(x),
    "bilinear_down": lambda k, tf, x: k.Resizing(12, 20)(x),
    "nearest_2": lambda k, tf, x: k.UpSampling2D(2)(x),
    "swish": lambda k, tf, x: k.Multiply()([x, tf.sigmoid(x)]),
    "hard_swish": lambda k, tf, x: k.Multiply()([x, k.ReLU(6.0)(x + 3.0)]),
    "gelu": lambda k, tf, x: tf.nn.gelu(x - 0.2, approximate=True),
    "gelu_exact": lambda k, tf, x: tf.nn.gelu(x - 0.2),
    "mish": lambda k, tf, x: x * tf.tanh(tf.nn.softplus(x - 0.2)),
    "leaky_relu": lambda k, tf, x: k.LeakyReLU()(k.Conv2D(8, 1)(x)),
    "prelu": lambda k, tf, x: k.PReLU("uniform", shared_axes=[1, 2])(k.Conv2D(8, 1)(x)),
    "elu": lambda k, tf, x: k.ELU()(k.Conv2D(8, 1)(x)),
    "relu_to_1": lambda k, tf, x: k.ReLU(1.0)(k.Conv2D(8, 1)(x)),
    "clip": lambda k, tf, x: tf.clip_by_value(k.Conv2D(8, 1)(x), 0.1, 0.7),
    "aspp": _aspp,
    "pyramid_pooling": _pyramid,
    "groups_of_4": lambda k, tf, x: k.Conv2D(8, 3, padding="same", groups=2)(x),
    "groups_of_2": lambda k, tf, x: k.Conv2D(8, 3, padding="same", groups=4)(x),
    "depthwise_doubled": lambda k, tf, x: k.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x),
    "separable_strided": lambda k, tf, x: k.SeparableConv2D(12, 3, strides=2, padding="same")(x),
    "residual_strided": lambda k, tf, x: k.Add()(
        [k.Conv2D(8, 1, strides=2)(x), k.Conv2D(8, 3, strides=2, padding="same")(x)]
    ),
    "concat_rows": lambda k, tf, x: k.Concatenate(axis=1)([x, x[:, ::-1]])[:, 16:48],
    "concat_of_6": lambda k, tf, x: k.Concatenate()([k.Conv2D(6, 1)(x), k.Conv2D(10, 1)(x)]),
    "global_max": lambda k, tf, x: k.Multiply()([x, k.GlobalMaxPooling2D(keepdims=True)(x)]),
    "self_attention": _self_attention,
    "softmax_of_2": lambda k, tf, x: tf.nn.softmax(k.Conv2D(2, 1)(x)),
    "dense_decoder": lambda k, tf, x: k.Reshape((8, 8, 4))(k.Dense(256)(k.Flatten()(k.AveragePooling2D(4)(x)))),
    "reflect_pad": lambda k, tf, x: k.Conv2D(8, 3)(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")),
    "crop": lambda k, tf, x: k.Cropping2D(4)(x),
    "every_second": lambda k, tf, x: x[:, ::2, ::2],
    "average_pool_3": lambda k, tf, x: k.AveragePooling2D(3, 1, padding="same")(x),
    "max_pool_3": lambda k, tf, x: k.MaxPooling2D(3, 2, padding="same")(x),
    "mean_of_rows": lambda k, tf, x: k.Add()([x, k.Conv2D(8, 1)(tf.reduce_mean(x, 2, keepdims=True))]),
    "difference": lambda k, tf, x: k.Subtract()([x, k.AveragePooling2D(3, 1, padding="same")(x)]),
    "maximum_of_maps": lambda k, tf, x: k.Maximum()([x, k.Conv2D(8, 1)(x)]),
}

#: Blocks on a photo of another size.
SIDES = {"se_96": ("se", 96), "se_64": ("se", 64), "se_72": ("se", 72), "se_100": ("se", 100)}
