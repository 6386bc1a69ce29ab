# bash completion for mesos-master, mesos-agent, mesos-slave and mesos-execute: the flags are what --help lists.
_mesos_compat() {
  local cur=${COMP_WORDS[COMP_CWORD]} words
  # bash breaks words at "=": after it a value is typed.
  if [[ $cur == = || ${COMP_WORDS[COMP_CWORD-1]} == = ]]; then
    COMPREPLY=($(compgen -f -- "${cur#=}"))
    return
  fi
  words=$("$1" --help 2>/dev/null | sed -n -e 's/^  --\[no-\]\([a-z0-9_]*\).*/--\1 --no-\1/p' -e 's/^  --\([a-z0-9_]*\)=VALUE.*/--\1=/p')
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -F _mesos_compat mesos-master mesos-agent mesos-slave mesos-execute
