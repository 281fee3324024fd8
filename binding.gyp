{
  "targets": [
    {
      "target_name": "walmirror",
      # A few files that include the others: what headers cost is paid once each (native/units.mjs).
      "sources": ["<!@(node native/units.mjs build/units/addon 4 native/core/*.cc native/simulated/*.cc native/addon/*.cc)"],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")", "native/core", "native/simulated"],
      "defines": [
        "NAPI_VERSION=8",
        "NODE_ADDON_API_DISABLE_DEPRECATED",
        # No exception passes through Node's own frames, which would end the process.
        "NODE_ADDON_API_CPP_EXCEPTIONS_ALL",
        # A worker that is being terminated takes no exception: else the process is aborted.
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
      "cflags_cc": ["-std=c++20", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden", "-fexceptions"],
      "conditions": [
        ["OS!='linux'", { "type": "none", "sources": [] }]
      ]
    }
  ]
}
