#compdef @PROGRAMS@
# zsh completion for thv-llm, made by: thv-llm completion zsh
_thv_llm() {
    local at="" last="${words[CURRENT - 1]}" i
    local -a items flags
    for ((i = 2; i < CURRENT; i++)); do
        case "${at:+$at }${words[i]}" in
        @PATHS@) at="${at:+$at }${words[i]}" ;;
        esac
    done
    if [[ $PREFIX == --*=* ]]; then
        last="${PREFIX%%=*}"
        compset -P '*='
    fi
    case "${at:+$at }$last" in
@VALUES@
    esac
    case "$at" in
@WORDS@
    esac
    if [[ $PREFIX == -* ]] || (( ! $#items )); then
        _describe option flags
    else
        _describe command items
    fi
}
if [[ ${funcstack[1]} == _thv-llm ]]; then
    _thv_llm "$@"
else
    compdef _thv_llm @PROGRAMS@
fi
