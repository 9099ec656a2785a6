# bash completion for thv-llm, made by: thv-llm completion bash
_thv_llm() {
    local cur=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD - 1]} at="" words="" flags="" i
    local IFS=$' \t\n'
    if [[ $cur == "=" ]]; then
        cur=""  # of --name=value, bash makes three words
    elif [[ $last == "=" ]]; then
        last=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${at:+$at }${COMP_WORDS[i]}" in
        @PATHS@) at="${at:+$at }${COMP_WORDS[i]}" ;;
        esac
    done
    case "${at:+$at }$last" in
@VALUES@
    esac
    case "$at" in
@WORDS@
    esac
    case "$cur" in
    -*) words=$flags ;;
    *) words=${words:-$flags} ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _thv_llm @PROGRAMS@
