# bash completion for gantry-module(1)
_gantry_module() {
  local cur prev words cword
  if declare -F _init_completion >/dev/null; then
    _init_completion -n = || return
  else
    words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
  fi
  local command="" i operands=0
  for ((i = 1; i < cword; i++)); do
    case ${words[i]} in
      -*) ;;
      *) if [[ -z $command ]]; then command=${words[i]}; else ((operands++)); fi ;;
    esac
  done
  case $prev in
    --stage) mapfile -t COMPREPLY < <(compgen -W "static load config contract behaviour twice fuzz replay" -- "$cur"); return ;;
    --host) mapfile -t COMPREPLY < <(compgen -W "kernel process both" -- "$cur"); return ;;
    --lang) mapfile -t COMPREPLY < <(compgen -W "cpp c rust" -- "$cur"); return ;;
    --waivers | --fixture) mapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- "$cur"; compgen -d -- "$cur"); return ;;
    --json) [[ $command == check ]] && { mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return; } ;;
    --replay) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    --dir | --templates) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
    -k | --filter | --seed | --fuzz | --reproduce | --timeout | --patience | -j | --jobs | --max-glibc | --rounds) return ;;
  esac
  local choices=""
  case $command in
    "") choices="new inspect check bench --help --version" ;;
    new)
      choices="--lang --dir --templates --help"
      ((operands == 0)) && choices+=" allocator authenticator authorizer election fetcher framework gateway image isolator store" ;;
    inspect) choices="--json --help" ;;
    check)
      choices="--stage --host --filter --json --waivers --fixture --seed --fuzz --reproduce --here --replay --timeout --patience --jobs --max-glibc --list --quiet --help" ;;
    bench) choices="--fixture --rounds --json --help" ;;
  esac
  if [[ $command =~ ^(inspect|check|bench)$ && $cur != -* ]]; then
    mapfile -t COMPREPLY < <(compgen -f -X '!*.so' -- "$cur"; compgen -d -- "$cur")
    return
  fi
  mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")
}
complete -F _gantry_module gantry-module
