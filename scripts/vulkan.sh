#!/usr/bin/env bash
# Prove the way to a GPU without having one: llama.cpp with Vulkan on Mesa's software device
# (lavapipe), in a virtual environment of its own, and the tests that need a device.
#
#   scripts/vulkan.sh [VENV]        Debian or Ubuntu; needs root for apt, and half an hour to compile
#
# CMAKE_ARGS may add options, e.g. CMAKE_ARGS=-DGGML_NATIVE=OFF.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv-vulkan}
mkdir -p "$(dirname "$venv")"
requirement=$(grep -o 'llama-cpp-python==[0-9.]*' pyproject.toml)

if ! command -v glslc >/dev/null || ! command -v vulkaninfo >/dev/null; then
  apt-get update -q
  apt-get install -q -y mesa-vulkan-drivers libvulkan-dev glslc spirv-headers vulkan-tools
fi
vulkaninfo --summary | grep deviceName

# llama.cpp needs Vulkan's headers from 1.3.272 on (VK_EXT_layer_settings); Debian 12 has 1.3.239.
# Those of a newer Debian are unpacked beside the venv; nothing of it is installed.
headers=/usr/include
if ! grep -q VK_EXT_layer_settings "$headers/vulkan/vulkan_core.h"; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
  cat >"$scratch/newer.sources" <<END
Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
  apt=(apt-get -q -o "Dir::Etc::sourcelist=$scratch/newer.sources" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$scratch/lists" -o "Dir::Cache=$scratch/cache")
  "${apt[@]}" update
  (cd "$scratch" && "${apt[@]}" download libvulkan-dev/trixie)
  dpkg -x "$scratch"/libvulkan-dev_*.deb "$venv-headers"
  headers=$(realpath "$venv-headers/usr/include")
fi

python3 -m venv "$venv"
CMAKE_ARGS="-DGGML_VULKAN=on -DVulkan_INCLUDE_DIR=$headers ${CMAKE_ARGS:-}" \
  "$venv/bin/pip" install --no-cache-dir "$requirement"
"$venv/bin/pip" install -q -e '.[test]'

# Without this variable llama.cpp uses no Vulkan device that is software.
GGML_VK_VISIBLE_DEVICES=0 "$venv/bin/pytest" -ra tests/test_device.py
