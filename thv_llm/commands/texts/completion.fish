# fish completion for thv-llm, made by: thv-llm completion fish
function __thv_llm_at
    set -l typed (commandline -opc)
    set -l at ''
    for word in $typed[2..-1]
        contains -- (string trim -- "$at $word") @PATHS@
        and set at (string trim -- "$at $word")
    end
    test "$at" = "$argv[1]"
end
@WORDS@
