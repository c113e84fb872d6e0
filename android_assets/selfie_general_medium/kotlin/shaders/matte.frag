#version 300 es
// The person before another background, in one pass; OpenGL ES 3.
// coefficients: a texture of GL_RGBA16F, GL_LINEAR, GL_CLAMP_TO_EDGE, from Matte.coefficients.values as GL_FLOAT.
precision highp float;
uniform sampler2D frame;
uniform sampler2D background;
uniform highp sampler2D coefficients;
uniform vec2 bounds; // Matte.low, Matte.high
in vec2 at;          // upright, (0, 0) is the first pixel of the frame's first row
out vec4 pixel;

void main() {
    vec4 found = texture(coefficients, at);
    vec3 colour = texture(frame, at).rgb;
    float alpha = smoothstep(bounds.x, bounds.y, clamp(dot(found.rgb, colour) + found.a, 0.0, 1.0));
    pixel = vec4(mix(texture(background, at).rgb, colour, alpha), 1.0);
}
